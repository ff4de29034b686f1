//! What clients can make grow, and that it does not: places, times, bytes, frames. All waiting is for outcomes.

use super::raw::*;
use super::*;

async fn counted(metrics: &Metrics, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !metrics.render().lines().any(|found| found == line) {
        assert!(Instant::now() < deadline, "{line} is not in\n{}", metrics.render());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn closed_for(metrics: &Metrics, reason: &str, count: usize) {
    counted(metrics, &format!(r#"darkroom_connections_closed_total{{port="grpc",reason="{reason}"}} {count}"#)).await;
}

async fn works(handle: &ServiceHandle) {
    VaeClient::new(channel_to(handle)).get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_newcomer_gets_the_place_of_one_that_does_nothing() {
    let (handle, metrics) = serve(|config| (config.max_connections, config.max_address_percent) = (2, 100)).await;
    let mut first = TcpStream::connect(handle.grpc_addr).await.unwrap();
    let mut second = shaken(handle.grpc_addr, &[]).await;
    until_frame(&mut second, SETTINGS).await;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    closed(&mut first).await;
    closed_for(&metrics, "displaced", 1).await;
    let mut other = VaeClient::new(channel_to(&handle));
    other.get_info(GetInfoRequest {}).await.unwrap();
    closed(&mut second).await;
    // Now both places are idle, and the one that waited longer is told to go: nobody notices.
    works(&handle).await;
    closed_for(&metrics, "displaced", 3).await;
    client.get_info(GetInfoRequest {}).await.unwrap();
    other.get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_newcomer_is_refused_while_all_are_busy() {
    let (handle, metrics) = serve(|config| config.max_connections = 1).await;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    let mut watch = HealthClient::new(channel_to(&handle));
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    let mut refused = TcpStream::connect(handle.grpc_addr).await.unwrap();
    closed(&mut refused).await;
    closed_for(&metrics, "refused", 1).await;
    // The place is free again when the call is over and its connection gone.
    drop(watch);
    let deadline = Instant::now() + Duration::from_secs(30);
    while VaeClient::new(channel_to(&handle)).get_info(GetInfoRequest {}).await.is_err() {
        assert!(Instant::now() < deadline, "the place was never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_address_leaves_places_for_others() {
    let (handle, metrics) = serve(|config| config.max_connections = 4).await;
    let mut hostile = Vec::new();
    for _ in 0..8 {
        let Some(stream) = connect_from(ELSEWHERE, handle.grpc_addr).await else { return };
        hostile.push(stream);
    }
    closed_for(&metrics, "displaced", 5).await;
    works(&handle).await;
    closed_for(&metrics, "displaced", 5).await;
}

#[tokio::test]
async fn what_was_begun_must_be_finished() {
    let (handle, metrics) = serve(|config| config.handshake_seconds = 1).await;
    let mut silent = TcpStream::connect(handle.grpc_addr).await.unwrap();
    let mut half_a_preface = TcpStream::connect(handle.grpc_addr).await.unwrap();
    half_a_preface.write_all(&PREFACE[..10]).await.unwrap();
    let mut half_a_head = shaken(handle.grpc_addr, &[]).await;
    half_a_head.write_all(&frame(HEADERS, 0, 1, &head(GET_INFO)[..20])).await.unwrap();
    for stream in [&mut silent, &mut half_a_preface, &mut half_a_head] {
        closed(stream).await;
    }
    closed_for(&metrics, "handshake", 3).await;

    let mut half_a_request = TcpStream::connect(handle.http_addr).await.unwrap();
    half_a_request.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
    // One that has made a request before has no more time for its next.
    let mut second_request = TcpStream::connect(handle.http_addr).await.unwrap();
    second_request.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(second_request.read(&mut [0; 1024]).await.unwrap() > 0);
    second_request.write_all(b"GET /hea").await.unwrap();
    closed(&mut half_a_request).await;
    closed(&mut second_request).await;
    counted(&metrics, r#"darkroom_connections_closed_total{port="http",reason="handshake"} 2"#).await;
}

#[tokio::test]
async fn an_idle_connection_is_asked_to_leave_and_no_call_is_lost() {
    let (handle, metrics) = serve(|config| config.idle_seconds = 1).await;
    let mut client = VaeClient::new(channel_to(&handle));
    client.get_info(GetInfoRequest {}).await.unwrap();
    let mut idle = shaken(handle.grpc_addr, &[]).await;
    let mut page = TcpStream::connect(handle.http_addr).await.unwrap();
    page.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    closed_for(&metrics, "idle", 2).await;
    counted(&metrics, r#"darkroom_connections_closed_total{port="http",reason="idle"} 1"#).await;
    closed(&mut page).await;
    // It never answers the probe that goes with it, and is cut off in the end.
    let frames = until_closed(&mut idle).await;
    assert!(frames.iter().any(|(kind, _)| *kind == GOAWAY), "{frames:?}");
    client.get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn calls_that_are_read_last_as_long_as_they_like() {
    let (handle, metrics) = serve(|config| {
        (config.handshake_seconds, config.idle_seconds, config.send_stall_seconds, config.request_seconds) =
            (1, 1, 1, 1);
        config.max_control_frames = 64;
    })
    .await;
    let mut health = HealthClient::new(channel_to(&handle));
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    let mut client = VaeClient::new(channel_to(&handle));
    let long = client.decode(decode_for(3000));
    // Others come and go for the same reasons meanwhile.
    let mut idle = shaken(handle.grpc_addr, &[]).await;
    closed(&mut idle).await;
    closed_for(&metrics, "idle", 1).await;
    long.await.unwrap();
    handle.readiness().set_ready();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    let reflection = ServerReflectionClient::new(channel_to(&handle));
    drop(reflection);
}

#[tokio::test]
async fn a_request_that_does_not_come_whole_is_answered() {
    let (handle, metrics) = serve(|config| config.request_seconds = 1).await;
    let mut slow = shaken(handle.grpc_addr, &[]).await;
    slow.write_all(&frame(HEADERS, END_HEADERS, 1, &head(GET_INFO))).await.unwrap();
    slow.write_all(&frame(DATA, 0, 1, &EMPTY[..3])).await.unwrap();
    until_frame(&mut slow, HEADERS).await;
    counted(&metrics, r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="DEADLINE_EXCEEDED"} 1"#).await;
    // The connection is none the worse for it.
    slow.write_all(&get_info(3)).await.unwrap();
    until_frame(&mut slow, HEADERS).await;
    counted(&metrics, r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="OK"} 1"#).await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_its_connection() {
    let (handle, metrics) = serve(|config| config.send_stall_seconds = 1).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: no room for any data.
    let mut stalled = shaken(handle.grpc_addr, &[0, 4, 0, 0, 0, 0]).await;
    stalled.write_all(&get_info(1)).await.unwrap();
    closed(&mut stalled).await;
    closed_for(&metrics, "stalled", 1).await;
    works(&handle).await;
}

#[tokio::test]
async fn requests_hold_no_more_memory_than_there_is() {
    let (handle, metrics) = serve(|config| config.max_intake_mib = 1).await;
    let mut large = shaken(handle.grpc_addr, &[]).await;
    // The server's own settings hold when they are acknowledged: then there is room for more than 64 KiB.
    until_frame(&mut large, SETTINGS).await;
    large.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
    large.write_all(&frame(HEADERS, END_HEADERS, 1, &head(GET_INFO))).await.unwrap();
    let mut message = vec![0; 1 << 20];
    message[1..5].copy_from_slice(&(8u32 << 20).to_be_bytes());
    for piece in message.chunks(16 << 10).take(40) {
        large.write_all(&frame(DATA, 0, 1, piece)).await.unwrap();
    }
    counted(&metrics, &format!("darkroom_intake_bytes {}", 40 << 14)).await;
    works(&handle).await;
    for piece in message.chunks(16 << 10).skip(40) {
        large.write_all(&frame(DATA, 0, 1, piece)).await.unwrap();
    }
    counted(&metrics, r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="RESOURCE_EXHAUSTED"} 1"#).await;
    counted(&metrics, "darkroom_intake_bytes 0").await;
    works(&handle).await;
}

#[tokio::test]
async fn calls_have_their_number() {
    let (handle, metrics) = serve(|config| (config.max_calls, config.max_address_percent) = (2, 100)).await;
    let mut health = HealthClient::new(channel_to(&handle));
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(health.watch(HealthCheckRequest::default()).await.unwrap().into_inner());
    }
    let mut client = VaeClient::new(channel_to(&handle));
    let status = client.get_info(GetInfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "other calls hold all places there are (max_calls)");
    counted(&metrics, r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="RESOURCE_EXHAUSTED"} 1"#).await;
    // One that has no body is refused as well.
    let mut bare = shaken(handle.grpc_addr, &[]).await;
    bare.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(GET_INFO))).await.unwrap();
    counted(&metrics, r#"darkroom_requests_total{method="darkroom.v1.Vae/GetInfo",code="RESOURCE_EXHAUSTED"} 2"#).await;
    watches.pop();
    counted(&metrics, "darkroom_calls 1").await;
    client.get_info(GetInfoRequest {}).await.unwrap();
}

/// Sends `flood` over and over until the server has had enough.
async fn flooded(handle: &ServiceHandle, before: &[u8], mut flood: impl FnMut(u32) -> Vec<u8>) -> Vec<(u8, Vec<u8>)> {
    let mut stream = shaken(handle.grpc_addr, &[]).await;
    stream.write_all(before).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        // A reset may come instead of an end.
        _ = read.read_to_end(&mut all).await;
        all
    });
    for round in 0..1_000_000 {
        if write.write_all(&flood(2 * round + 1)).await.is_err() {
            break;
        }
        assert!(round < 999_999, "the flood goes on");
    }
    let all = reader.await.unwrap();
    let (mut rest, mut frames) = (all.as_slice(), Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = (u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize).min(after.len());
        frames.push((head[3], after[..length].to_vec()));
        rest = &after[length..];
    }
    frames
}

#[tokio::test]
async fn frames_that_move_nothing_on_are_a_flood() {
    let (handle, metrics) = serve(|config| config.max_control_frames = 100).await;
    let open = frame(HEADERS, END_HEADERS, 1, &head(GET_INFO));
    let floods: [(&str, Vec<u8>, Vec<u8>); 6] = [
        ("ping", vec![], frame(PING, 0, 0, &[0; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("priority", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("empty data", open.clone(), frame(DATA, 0, 1, &[])),
        ("window", open.clone(), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("unknown", vec![], frame(0x42, 0, 0, &[])),
    ];
    for (at, (name, before, flood)) in floods.into_iter().enumerate() {
        let frames = flooded(&handle, &before, |_| flood.clone()).await;
        tracing::debug!("{name}: {frames:?}");
        closed_for(&metrics, "flood", at + 1).await;
        works(&handle).await;
    }
}

#[tokio::test]
async fn calls_that_are_cancelled_at_once_are_a_flood() {
    let (handle, metrics) = serve(|_| ()).await;
    let head = head(GET_INFO);
    let reset = |stream: u32| {
        [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    // Either the HTTP layer sees it, or the count does.
    flooded(&handle, &[], reset).await;
    works(&handle).await;
    counted(&metrics, r#"darkroom_connections{port="grpc"} 0"#).await;
}

#[tokio::test]
async fn headers_without_end_are_a_flood() {
    let (handle, metrics) = serve(|_| ()).await;
    let head = frame(HEADERS, 0, 1, &head(GET_INFO));
    flooded(&handle, &head, |_| frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'])).await;
    flooded(&handle, &head, |_| frame(CONTINUATION, 0, 1, &[])).await;
    works(&handle).await;
    counted(&metrics, r#"darkroom_connections{port="grpc"} 0"#).await;
}

#[tokio::test]
async fn a_flood_is_told_what_it_is() {
    let (handle, _) = serve(|config| config.max_control_frames = 64).await;
    let mut stream = shaken(handle.grpc_addr, &[]).await;
    until_frame(&mut stream, SETTINGS).await;
    // One more than allowed, with the settings: all of it is read before the connection is closed.
    stream.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(64)).await.unwrap();
    let frames = until_closed(&mut stream).await;
    let (_, said) = frames.iter().find(|(kind, _)| *kind == GOAWAY).expect("a GOAWAY");
    assert!(said.ends_with(b"too_many_pings"), "{said:?}");
}
