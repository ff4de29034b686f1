//! The pictures that requests begin from: their heads are read before anything is decided, they are decoded once a request has its
//! place, and what they take is bounded for each client and for all.

use std::sync::Arc;

use bytes::Bytes;
use darkroom_proto::v1::GenerateRequest;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tonic::Status;

use crate::clients::Identity;
use crate::job::Job;
use crate::picture::Rgb;
use crate::picture_file::PictureFile;
use crate::results::{Results, Shelf};
use crate::validate::Refusal;

/// Pictures that are decoded at once: each may take some hundred MiB for a moment.
const AT_ONCE: usize = 2;

/// The files of a request.
pub(crate) struct Files {
    init: PictureFile,
    mask: Option<PictureFile>,
}

/// What a request begins from, at the size of its pictures.
pub(crate) struct Pictures {
    pub(crate) init: Rgb,
    /// A byte a pixel: 0 stays as it is, 255 is made anew.
    pub(crate) mask: Option<Bytes>,
    _shelf: Shelf,
}

/// Decodes and keeps them.
pub(crate) struct Inputs {
    kept: Arc<Results>,
    decoding: Arc<Semaphore>,
}

impl Files {
    /// As [`Files::take`], on a blocking thread where there is anything to take: hashing and heads of large files take their time.
    ///
    /// # Errors
    /// When that thread was ended.
    pub(crate) async fn taken_of(
        mut request: GenerateRequest,
    ) -> Result<(GenerateRequest, Result<Option<Self>, Refusal>), Status> {
        if request.init_image.is_empty() && request.mask_image.is_empty() {
            return Ok((request, Ok(None)));
        }
        let take = spawn_blocking(move || {
            let files = Self::take(&mut request);
            (request, files)
        });
        take.await.map_err(|error| Status::internal(format!("a picture was not read: {error}")))
    }

    /// Takes the files out of a request, and leaves their BLAKE3 hashes in it: enough to tell whether another is the same.
    ///
    /// # Errors
    /// What is wrong with the head of one of them.
    pub(crate) fn take(request: &mut GenerateRequest) -> Result<Option<Self>, Refusal> {
        let mask = apart(&mut request.mask_image);
        let Some(init) = apart(&mut request.init_image) else { return Ok(None) };
        let mask = mask.map(|bytes| PictureFile::open("mask_image", bytes)).transpose()?;
        Ok(Some(Self { init: PictureFile::open("init_image", init)?, mask }))
    }

    /// Of the picture to begin from.
    pub(crate) fn size(&self) -> [u32; 2] {
        self.init.size()
    }

    fn decode(&self, size: [u32; 2], mut shelf: Shelf) -> Result<Pictures, Refusal> {
        let init = self.init.rgb(size)?;
        let mask = self.mask.as_ref().map(|mask| mask.grey(size)).transpose()?;
        shelf.put(init.data.len() + mask.as_ref().map_or(0, Bytes::len));
        Ok(Pictures { init, mask, _shelf: shelf })
    }
}

fn apart(field: &mut Bytes) -> Option<Bytes> {
    if field.is_empty() {
        return None;
    }
    let hash = Bytes::copy_from_slice(blake3::hash(field).as_bytes());
    Some(std::mem::replace(field, hash))
}

impl Inputs {
    /// Keeps them in `kept`.
    pub(crate) fn new(kept: Arc<Results>) -> Self {
        Self { kept, decoding: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Decodes the files of `client`'s job.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where too much is kept already, `INVALID_ARGUMENT` for a file that is broken.
    pub(crate) async fn decode(
        &self,
        files: Option<Files>,
        job: &Job,
        client: &Identity,
    ) -> Result<Option<Arc<Pictures>>, Status> {
        let Some(files) = files else { return Ok(None) };
        self.kept.room(client)?;
        let shelf = self.kept.shelf(client);
        let size = [job.width, job.height];
        let permit = Arc::clone(&self.decoding).acquire_owned().await;
        let decoded = spawn_blocking(move || {
            let _permit = permit;
            files.decode(size, shelf)
        });
        let decoded = decoded.await.map_err(|error| Status::internal(format!("a picture was not decoded: {error}")))?;
        decoded.map(|pictures| Some(Arc::new(pictures))).map_err(Status::from)
    }
}
