//! What the collector says about itself, and starting and stopping.

use extranet_collector::admin;
use extranet_collector::serve::{Running, ServeError};
use extranet_proto::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::place::{Site, batch, hello};

#[tokio::test]
async fn statistics_are_served() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    stream.say(batch(0, 7)).await;
    stream.await_ack(1, 0, 7).await;
    let mut tcp = TcpStream::connect(site.running().self_address.unwrap())
        .await
        .unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut page = String::new();
    tcp.read_to_string(&mut page).await.unwrap();
    for line in [
        "HTTP/1.1 200",
        "extranet_collector_ingest_records_total{reason=\"new\"} 7",
        "extranet_collector_session_open 1",
        "extranet_collector_enrol_issued_total{reason=\"ticket\"} 1",
        "# EOF",
    ] {
        assert!(page.contains(line), "{line} is not in:\n{page}");
    }
}

#[tokio::test]
async fn the_status_shows_who_is_connected() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (_stream, _) = site.greet(&identity, hello(1)).await;
    let mut client = admin::connect(&site.config.state_dir).await.unwrap();
    let request = wire::StatusRequest {
        ap_id: "ap-1".to_owned(),
        measurements: 5,
    };
    let reply = client.status(request).await.unwrap().into_inner();
    let agent = &reply.access_points[0].agents[0];
    assert!(agent.connected);
    assert_eq!(
        (agent.agent_id.as_str(), agent.version.as_str()),
        (identity.agent_id.as_str(), "test")
    );
    assert!(reply.log.unwrap().records > 0);
}

#[tokio::test]
async fn a_second_collector_in_the_same_folder_is_refused() {
    let site = Site::start().await;
    let second = Running::start(&site.config, site.clock.clock()).await;
    assert!(matches!(second.err(), Some(ServeError::Log(_))));
    // And has not taken the socket away.
    admin::connect(&site.config.state_dir).await.unwrap();
}

#[tokio::test]
async fn a_stop_acknowledges_what_is_durable_and_says_goodbye() {
    let mut site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    stream.say(batch(0, 3)).await;
    stream.await_ack(1, 0, 3).await;
    let (status, ()) = tokio::join!(stream.end(), site.stop());
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let inputs = site.logged();
    assert!(
        matches!(
            inputs.last(),
            Some(wire::log_record::Input::CollectorStopping(_))
        ),
        "{:?}",
        inputs.last()
    );
    assert!(admin::connect(&site.config.state_dir).await.is_err());
    assert!(site.folder().join("state/pki/ca.key").is_file());
}
