//! The connection: one HTTP/2 channel with limits and timeouts, shared by all clones of a client.

use std::time::Duration;

use darkroom_proto::v1;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::generation::Generation;
use crate::{Error, GenerateRequest, Model, ServerInfo, Tls};

/// A connection to a Darkroom server (its orchestrator). Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    rpc: ImageGenerationClient<Channel>,
    call_timeout: Duration,
    api_key: Option<MetadataValue<Ascii>>,
}

/// How an address that is spoken to over TLS begins.
const SECURE: &str = "https://";

/// The metadata that names the caller.
const API_KEY: &str = "x-api-key";

/// The settings of a connection; [`Client::builder`] makes one.
#[derive(Debug, Clone)]
pub struct Builder {
    connect_timeout: Duration,
    call_timeout: Duration,
    keep_alive_interval: Duration,
    max_message_bytes: usize,
    api_key: Option<MetadataValue<Ascii>>,
    tls: Option<Tls>,
}

impl Client {
    /// Connects with the default settings. `address` is `http://host:port` or `https://host:port`; `host:port` is the first.
    ///
    /// # Errors
    /// [`Error::Address`] for an address that cannot be used, [`Error::Connect`] when nobody answers there in time.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder().connect(address).await
    }

    /// The settings of a connection, to be changed before [`Builder::connect`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks for pictures. The answer is a stream of events; dropping it cancels what is left.
    ///
    /// # Errors
    /// What the server refuses at once: `INVALID_ARGUMENT` with the field, `RESOURCE_EXHAUSTED` with a retry delay,
    /// `UNAUTHENTICATED` for an API key that it does not know, `UNAVAILABLE` with the stage that has no worker. Later errors come through the stream.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Error> {
        let (message, deadline, trace) = request.into_parts();
        let mut request = self.request(message);
        if let Some(trace) = trace {
            trace.write(request.metadata_mut());
        }
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        Generation::start(self.rpc.clone(), request, deadline).await
    }

    /// The models that a request can name, with their defaults and limits.
    ///
    /// # Errors
    /// `UNAVAILABLE` as long as the server has not found out about its stages.
    pub async fn list_models(&self) -> Result<Vec<Model>, Error> {
        let response = self.rpc.clone().list_models(self.unary(v1::ListModelsRequest {})).await;
        let response = response.map_err(|status| self.too_late(status))?.into_inner();
        Ok(response.models.into_iter().map(Model::from).collect())
    }

    /// The server's version, queue, counters and stages, and whether it can serve. It answers when it cannot, too.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let response = self.rpc.clone().get_server_info(self.unary(v1::GetServerInfoRequest {})).await;
        Ok(response.map_err(|status| self.too_late(status))?.into_inner().into())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert(API_KEY, key.clone());
        }
        request
    }

    fn unary<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(self.call_timeout);
        request
    }

    /// Nobody cancels a short call but the transport's own timer.
    fn too_late(&self, status: Status) -> Error {
        match status.code() {
            Code::Cancelled => {
                Error::deadline_exceeded(format!("no answer within {} s", self.call_timeout.as_secs_f64()))
            }
            _ => status.into(),
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            // A lossless picture of 2048 by 2048 pixels is at most 12 MiB and a little.
            max_message_bytes: 32 << 20,
            api_key: None,
            tls: None,
        }
    }
}

impl Builder {
    /// The longest wait for a connection (5 s).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest wait for a short answer, such as the list of models (10 s). A generation has its own
    /// [deadline](GenerateRequest::deadline).
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How often to ask a silent server whether it is still there during a call (20 s).
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keep_alive_interval = interval;
        self
    }

    /// The largest message to take from the server (32 MiB).
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// The key by which the server knows the caller, sent with every call. It never shows in debug output.
    ///
    /// # Errors
    /// [`Error::ApiKey`] for one that is empty or holds anything but visible ASCII.
    pub fn api_key(mut self, key: impl AsRef<str>) -> Result<Self, Error> {
        let key = key.as_ref();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::ApiKey("it must be visible ASCII characters without spaces, at least one"));
        }
        let mut key: MetadataValue<Ascii> = key.parse().map_err(|_| Error::ApiKey("it cannot be sent"))?;
        key.set_sensitive(true);
        self.api_key = Some(key);
        Ok(self)
    }

    /// Whom to trust at an `https://` address, and what to show there (the system's authorities, and nothing).
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects to `http://host:port` or `https://host:port`; `host:port` is the first.
    ///
    /// # Errors
    /// [`Error::Address`] for an address that cannot be used, [`Error::Tls`] for certificates that cannot,
    /// [`Error::Connect`] when nobody answers there in time, or the two sides do not trust each other.
    pub async fn connect(self, address: impl AsRef<str>) -> Result<Client, Error> {
        let address = address.as_ref();
        let uri = uri(address)?;
        let secure = uri.starts_with(SECURE);
        let mut endpoint = Endpoint::from_shared(uri).map_err(|error| bad_address(address, error.to_string()))?;
        if secure {
            let tls = self.tls.unwrap_or_default();
            endpoint = endpoint.tls_config(tls.config()).map_err(Error::tls)?;
        } else if self.tls.is_some() {
            return Err(bad_address(address, "certificates are for https; write https://host:port".into()));
        }
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_interval);
        let channel = endpoint.connect().await.map_err(|error| Error::connect(address, error))?;
        let rpc = ImageGenerationClient::new(channel).max_decoding_message_size(self.max_message_bytes);
        Ok(Client { rpc, call_timeout: self.call_timeout, api_key: self.api_key })
    }
}

fn uri(address: &str) -> Result<String, Error> {
    match address.split_once("://") {
        None if address.is_empty() => Err(bad_address(address, "it is empty; write http://host:port".into())),
        None => Ok(format!("http://{address}")),
        Some(("http" | "https", _)) => Ok(address.to_owned()),
        Some((scheme, _)) => Err(bad_address(
            address,
            format!("{scheme} is not spoken here; write http://host:port or https://host:port"),
        )),
    }
}

fn bad_address(address: &str, reason: String) -> Error {
    Error::Address { address: address.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short() {
        assert_eq!(uri("127.0.0.1:7000").unwrap(), "http://127.0.0.1:7000");
        assert_eq!(uri("http://darkroom:7000").unwrap(), "http://darkroom:7000");
        assert_eq!(uri("https://darkroom:7000").unwrap(), "https://darkroom:7000");
        assert!(uri("unix://darkroom").unwrap_err().to_string().contains("unix is not spoken here"));
        assert!(uri("").is_err());
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_refused_and_no_key_is_shown() {
        for key in ["", "two words", "schlüssel", "line\n"] {
            let error = Client::builder().api_key(key).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(key.is_empty() || !error.to_string().contains(key), "{error}");
        }
        let builder = Client::builder().api_key("hunter2").unwrap();
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_used_are_refused_before_anything_is_sent() {
        let error = Client::builder().tls(Tls::new()).connect("http://127.0.0.1:1").await.unwrap_err();
        assert!(error.to_string().contains("certificates are for https"), "{error}");
        let tls = Tls::new().authorities("no certificate").identity("no certificate", "hunter2");
        assert!(!format!("{tls:?}").contains("hunter2"), "{tls:?}");
        let error = Client::builder().tls(tls).connect("https://127.0.0.1:1").await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_unavailable_and_says_so() {
        // Bound and dropped: nobody listens on it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Client::connect(format!("127.0.0.1:{port}")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.to_string().to_lowercase().contains("connection refused"), "{error}");
    }
}
