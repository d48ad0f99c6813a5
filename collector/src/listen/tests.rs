//! Strangers, garbage and wrong certificates at the port.

use super::*;
use extranet_agent::shell::{ShutdownTrigger, shutdown};
use extranet_proto::id::{AgentId, ApId};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::server::Connected;

struct Port {
    address: SocketAddr,
    authority: Authority,
    incoming: Incoming,
    stats: Arc<Stats>,
    _trigger: ShutdownTrigger,
    _folder: tempfile::TempDir,
}

fn now() -> i64 {
    Clock::system().read().wall_us
}

fn open_port() -> Port {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::new(&authority, now()).unwrap();
    let stats = Arc::new(Stats::new());
    let (trigger, shutdown) = shutdown();
    let incoming = start(listener, tls, Clock::system(), Arc::clone(&stats), shutdown);
    Port {
        address,
        authority,
        incoming,
        stats,
        _trigger: trigger,
        _folder: folder,
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn identity(authority: &Authority, wall_us: i64) -> Identity {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let agent = AgentId::new("agent-1").unwrap();
    let issued = authority
        .issue(request.der(), &agent, &ApId::new("ap-1").unwrap(), wall_us)
        .unwrap();
    (
        issued.certificate,
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    )
}

/// Connects as a TLS client and waits for a byte, which only an admitted client can get.
async fn connect(
    address: SocketAddr,
    authority: &Authority,
    name: &str,
    identity: Option<Identity>,
) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(authority.provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(name, tcp).await?;
    // In TLS 1.3 the client learns of a refused certificate only when it reads.
    tls.read_u8().await.map(drop)
}

async fn wait_for_agent(incoming: &mut mpsc::Receiver<Connection>) -> Option<AgentId> {
    incoming
        .recv()
        .await
        .and_then(|connection| connection.connect_info().subject)
        .map(|subject| subject.agent)
}

async fn await_count(port: &Port, reason: &'static str) {
    let counted = async {
        while port
            .stats
            .listen_dropped
            .get_or_create(&[("reason", reason)])
            .get()
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    let page = || port.stats.page();
    tokio::time::timeout(Duration::from_secs(5), counted)
        .await
        .unwrap_or_else(|_| panic!("{}", page()));
}

#[tokio::test]
async fn garbage_is_a_counted_drop() {
    let port = open_port();
    let long = vec![0xff; 70_000];
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03",
    ];
    for garbage in garbage {
        let mut tcp = TcpStream::connect(port.address).await.unwrap();
        drop(tcp.write_all(garbage).await);
        drop(tcp.shutdown().await);
        // Closed by the server, with or without an alert before.
        drop(
            tokio::time::timeout(Duration::from_secs(5), tcp.read_to_end(&mut Vec::new()))
                .await
                .unwrap(),
        );
    }
    await_count(&port, "not_tls").await;
    await_count(&port, "closed_early").await;
    // The port still works.
    let mut port = port;
    let me = identity(&port.authority, now());
    tokio::select! {
        connection = wait_for_agent(&mut port.incoming.uplink) => {
            assert_eq!(connection.unwrap().as_str(), "agent-1");
        }
        refused = connect(port.address, &port.authority, UPLINK_SERVER_NAME, Some(me)) => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn the_uplink_demands_a_certificate_of_ours() {
    let port = open_port();
    assert!(
        connect(port.address, &port.authority, UPLINK_SERVER_NAME, None)
            .await
            .is_err()
    );
    await_count(&port, "no_certificate").await;

    let stranger = open_port();
    let theirs = identity(&stranger.authority, now());
    assert!(
        connect(
            port.address,
            &port.authority,
            UPLINK_SERVER_NAME,
            Some(theirs)
        )
        .await
        .is_err()
    );
    await_count(&port, "unknown_issuer").await;

    let lapsed = identity(&port.authority, now() - 366 * 86_400_000_000);
    assert!(
        connect(
            port.address,
            &port.authority,
            UPLINK_SERVER_NAME,
            Some(lapsed)
        )
        .await
        .is_err()
    );
    await_count(&port, "expired_certificate").await;
}

#[tokio::test]
async fn another_server_name_leads_nowhere() {
    let port = open_port();
    assert!(
        connect(port.address, &port.authority, "example.org", None)
            .await
            .is_err()
    );
    await_count(&port, "unknown_server_name").await;
}

#[tokio::test]
async fn enrolment_needs_no_certificate_and_is_kept_apart() {
    let mut port = open_port();
    let client = spawn_named("client", {
        let mut roots = RootCertStore::empty();
        roots.add(port.authority.certificate().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(port.authority.provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = port.address;
        async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(ENROLMENT_SERVER_NAME).unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let tls = connector.connect(name, tcp).await.unwrap();
            let chain: Vec<_> = tls.get_ref().1.peer_certificates().unwrap().to_vec();
            chain
        }
    });
    let connection = port.incoming.enrolment.recv().await.unwrap();
    assert_eq!(connection.connect_info().subject, None);
    assert!(port.incoming.uplink.try_recv().is_err());
    // The authority's certificate comes along, to be compared with a ticket's fingerprint.
    let chain = client.await.unwrap();
    assert_eq!(pki::digest(&chain[1]), port.authority.fingerprint());
}
