//! An honest client beside two thousand that are not.

use super::raw::*;
use super::*;
use crate::open_files;

/// Each has a connection here and one there.
const HOSTILE: usize = 2000;

/// One connection that does what kind `number` of hostile clients does, and whatever keeps it open.
async fn attack(number: usize, addr: std::net::SocketAddr) -> Option<TcpStream> {
    let mut stream = connect_from(ELSEWHERE, addr).await?;
    let handshake = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let open = frame(HEADERS, END_HEADERS, 1, &head(GET_INFO));
    let sent = match number % 8 {
        0 => vec![],
        1 => PREFACE[..7].to_vec(),
        2 => handshake,
        3 => [handshake, frame(HEADERS, 0, 1, &head(GET_INFO)[..9])].concat(),
        4 => [handshake, open, frame(DATA, 0, 1, &[0, 0, 0xff, 0xff, 0xff])].concat(),
        5 => [handshake, get_info(1)].concat(),
        6 => [handshake, frame(PING, 0, 0, &[0; 8]).repeat(2000)].concat(),
        _ => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100),
    };
    // The server may close it while it still talks.
    _ = stream.write_all(&sent).await;
    Some(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_client_is_served_beside_two_thousand_hostile_ones() {
    open_files::allow_for(&ServerConfig::on_port(0));
    let (handle, metrics) = serve(|config| config.max_connections = 512).await;
    let mut regular = VaeClient::new(channel_to(&handle));
    regular.get_info(GetInfoRequest {}).await.unwrap();
    let mut other = VaeClient::new(channel_to(&handle));
    let running = tokio::spawn(async move { other.decode(decode_for(3000)).await });

    let addr = handle.grpc_addr;
    let mut hostile = Vec::new();
    for round in 0..HOSTILE / 50 {
        let mut attacks = tokio::task::JoinSet::new();
        for number in 0..50 {
            attacks.spawn(attack(round * 50 + number, addr));
        }
        // On the same connection, and on a new one.
        regular.get_info(GetInfoRequest {}).await.unwrap();
        VaeClient::new(channel_to(&handle)).get_info(GetInfoRequest {}).await.unwrap();
        hostile.extend(attacks.join_all().await.into_iter().flatten());
    }
    running.await.unwrap().unwrap();
    let text = metrics.render();
    let open = text.lines().find_map(|line| line.strip_prefix(r#"darkroom_connections{port="grpc"} "#)).unwrap();
    // Some may be on their way out.
    assert!(open.parse::<f64>().unwrap() <= 512.0 + 64.0 + 50.0, "{text}");
    regular.get_info(GetInfoRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_survives_those_who_are_closed_and_come_again() {
    open_files::allow_for(&ServerConfig::on_port(0));
    let (handle, _) = serve(|config| (config.max_connections, config.handshake_seconds) = (1000, 1)).await;
    let addr = handle.grpc_addr;
    let mut restless = tokio::task::JoinSet::new();
    for _ in 0..1500 {
        restless.spawn(async move {
            loop {
                if let Some(mut stream) = connect_from(ELSEWHERE, addr).await {
                    _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        });
    }
    // Some lose their place to others meanwhile, and all who keep theirs are closed three times.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let asked = async { VaeClient::new(channel_to(&handle)).get_info(GetInfoRequest {}).await };
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect("the port has stopped").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
