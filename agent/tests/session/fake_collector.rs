//! A collector that does as it is told: real TLS, real gRPC, no state but what it saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use extranet_agent::config::Config;
use extranet_agent::identity::ticket::{Ticket, sha256};
use extranet_agent::shell::spawn_named;
use extranet_proto::id::ApId;
use extranet_proto::record::{AgentEvent, Body, CheckResult, Record};
use extranet_proto::session::{
    Ack, AgentMessage, AssignmentStatus, Batch, CollectorMessage, Hello, IncarnationRange,
    MeasurementAnswer, Wait, Welcome,
};
use extranet_proto::wire::enrolment_server::{Enrolment, EnrolmentServer};
use extranet_proto::wire::uplink_server::{self, UplinkServer};
use extranet_proto::{ENROLMENT_SERVER_NAME, UPLINK_SERVER_NAME, block, wire};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

/// The id of every agent it enrols.
pub(crate) const AGENT_ID: &str = "540121-001-a";
/// What a condition gets to become true.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it does with the next stream and batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    /// Answer a hello with this instead of a welcome; used up by one.
    pub(crate) wait: Option<Duration>,
    /// Keep silent about batches.
    pub(crate) withhold_acks: bool,
    /// Claim in the welcome to hold everything the hello declared.
    pub(crate) claim_all_held: bool,
    pub(crate) flush_interval: Duration,
    /// Sent after each welcome.
    pub(crate) assignment: Option<wire::Assignment>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Vec<(Instant, Hello)>,
    pub(crate) batches: Vec<(Instant, Batch)>,
    /// Each record by incarnation and sequence; a re-send must equal its first copy.
    pub(crate) records: BTreeMap<(u64, u64), Record>,
    /// Those that came again, each time.
    pub(crate) resent: Vec<(u64, u64)>,
    pub(crate) statuses: Vec<AssignmentStatus>,
    pub(crate) answers: Vec<MeasurementAnswer>,
    pub(crate) streams_ended: usize,
}

impl Seen {
    pub(crate) fn results(&self) -> impl Iterator<Item = (&Record, &CheckResult)> {
        self.records
            .values()
            .filter_map(|record| match &record.body {
                Body::Result(result) => Some((record, result)),
                _ => None,
            })
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &AgentEvent> {
        self.records
            .values()
            .filter_map(|record| match &record.body {
                Body::Event(event) => Some(event),
                _ => None,
            })
    }
}

struct Shared {
    orders: Mutex<Orders>,
    seen: Mutex<Seen>,
    changed: watch::Sender<()>,
    cut: watch::Sender<()>,
    /// The way down of the open stream.
    down: Mutex<Option<mpsc::Sender<Result<wire::CollectorMessage, Status>>>>,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// The handle for a test.
#[derive(Clone)]
pub(crate) struct FakeCollector {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
}

impl FakeCollector {
    pub(crate) async fn start(orders: Orders) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, orders)
    }

    pub(crate) fn start_on(listener: TcpListener, orders: Orders) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "fake fleet");
        let root = ca.self_signed(&ca_key).unwrap().der().clone();
        let shared = Arc::new(Shared {
            orders: Mutex::new(orders),
            seen: Mutex::default(),
            changed: watch::channel(()).0,
            cut: watch::channel(()).0,
            down: Mutex::default(),
            issuer: Issuer::new(ca, ca_key),
            root,
        });
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(server_config(&shared));
        let service = Service(Arc::clone(&shared));
        spawn_named("fake_collector", async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                spawn_named(
                    "fake_connection",
                    serve(acceptor.clone(), tcp, service.clone()),
                );
            }
        });
        Self { shared, address }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::draw(ApId::new("540121-001").unwrap(), sha256(&self.shared.root)).unwrap()
    }

    /// A configuration for an agent of this collector, enrolled by ticket.
    pub(crate) fn config(&self, state_dir: &Path) -> Config {
        std::fs::create_dir_all(state_dir).unwrap();
        let ticket_file = state_dir.join("ticket");
        std::fs::write(&ticket_file, self.ticket().to_text()).unwrap();
        let text = format!(
            "collectors = ['{}']\nstate_dir = '{}'\nticket_file = '{}'\n\
             [uplink]\nbackoff_min = '50ms'\nbackoff_max = '200ms'\nconnect_timeout = '5s'\n\
             [spool]\nsync_interval = '100ms'\n",
            self.address,
            state_dir.display(),
            ticket_file.display(),
        );
        Config::parse("test", &text).unwrap()
    }

    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.shared.orders.lock().unwrap());
    }

    pub(crate) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.shared.seen.lock().unwrap())
    }

    /// Ends every open stream.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    pub(crate) async fn send(&self, message: CollectorMessage) {
        let down = self.shared.down.lock().unwrap().clone().unwrap();
        down.send(Ok(message.into())).await.unwrap();
    }

    /// Waits until what was seen fulfils a condition.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut condition: impl FnMut(&Seen) -> Option<T>,
    ) -> T {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if let Some(value) = self.look(&mut condition) {
                    return value;
                }
                changed.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| {
            panic!(
                "never: {what}; seen: {:#?}",
                self.shared.seen.lock().unwrap()
            )
        })
    }
}

fn server_config(shared: &Shared) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let names = [UPLINK_SERVER_NAME, ENROLMENT_SERVER_NAME].map(str::to_owned);
    let leaf = CertificateParams::new(names.to_vec())
        .unwrap()
        .signed_by(&key, &shared.issuer)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(shared.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![leaf.der().clone(), shared.root.clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[derive(Clone)]
struct Service(Arc<Shared>);

impl Service {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.seen.lock().unwrap());
        self.0.changed.send_replace(());
    }

    /// Hello, answer, then everything until somebody ends it.
    async fn converse(
        &self,
        mut up: Streaming<wire::AgentMessage>,
        down: &mpsc::Sender<Result<wire::CollectorMessage, Status>>,
    ) {
        let mut cut = self.0.cut.subscribe();
        let Ok(Some(first)) = up.message().await else {
            return;
        };
        let AgentMessage::Hello(hello) = first.try_into().unwrap() else {
            panic!("the first message must be a hello");
        };
        let own = hello.incarnation;
        let waiting = hello.waiting.clone();
        let orders = self.0.orders.lock().unwrap().clone();
        if let Some(delay) = orders.wait {
            self.0.orders.lock().unwrap().wait = None;
            self.note(|seen| seen.hellos.push((Instant::now(), *hello)));
            let reason = "as ordered".to_owned();
            let wait = CollectorMessage::Wait(Wait { delay, reason });
            drop(down.send(Ok(wait.into())).await);
            return;
        }
        let welcome = Welcome {
            protocol: *hello.protocol.end(),
            collector_version: "fake".to_owned(),
            collector_wall_us: hello.clock.wall_us,
            flush_interval: orders.flush_interval,
            already_held: if orders.claim_all_held {
                waiting
            } else {
                Vec::new()
            },
        };
        let welcome = CollectorMessage::Welcome(welcome);
        if down.send(Ok(welcome.into())).await.is_err() {
            return;
        }
        *self.0.down.lock().unwrap() = Some(down.clone());
        self.note(|seen| seen.hellos.push((Instant::now(), *hello)));
        if let Some(assignment) = orders.assignment {
            let message = CollectorMessage::Assignment(assignment);
            drop(down.send(Ok(message.into())).await);
        }
        loop {
            let message = tokio::select! {
                _ = cut.changed() => return,
                message = up.message() => message,
            };
            let Ok(Some(message)) = message else {
                return;
            };
            match message.try_into().unwrap() {
                AgentMessage::Batch(batch) => {
                    let range = batch.range(own);
                    self.take(batch, range);
                    let withhold = self.0.orders.lock().unwrap().withhold_acks;
                    if range.count() > 0 && !withhold {
                        let ack = CollectorMessage::Ack(Ack {
                            ranges: vec![range],
                            refused: Vec::new(),
                        });
                        drop(down.send(Ok(ack.into())).await);
                    }
                }
                AgentMessage::AssignmentStatus(status) => {
                    self.note(|seen| seen.statuses.push(status));
                }
                AgentMessage::MeasurementAnswer(answer) => {
                    self.note(|seen| seen.answers.push(answer));
                }
                AgentMessage::Hello(_) | AgentMessage::Unknown => panic!("not now"),
            }
        }
    }

    fn take(&self, batch: Batch, range: IncarnationRange) {
        let records = block::decode(&batch.block).unwrap();
        assert_eq!(records.len() as u64, range.count());
        self.note(|seen| {
            for (sequence, record) in (range.from_inclusive..).zip(records) {
                let key = (range.incarnation.0, sequence);
                if let Some(before) = seen.records.insert(key, record.clone()) {
                    assert_eq!(before, record, "a re-send differs from its first copy");
                    seen.resent.push(key);
                }
            }
            seen.batches.push((Instant::now(), batch));
        });
    }
}

#[tonic::async_trait]
impl uplink_server::Uplink for Service {
    type ExchangeStream = ReceiverStream<Result<wire::CollectorMessage, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (down, stream) = mpsc::channel(16);
        let this = self.clone();
        spawn_named("fake_stream", async move {
            this.converse(request.into_inner(), &down).await;
            this.0.down.lock().unwrap().take();
            this.note(|seen| seen.streams_ended += 1);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::EnrolReply>, Status> {
        let request = request.into_inner();
        assert_eq!(request.ap_id, "540121-001");
        assert_eq!(request.ticket_secret.len(), 16);
        Ok(Response::new(self.issue(&request.certificate_request)))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::EnrolReply>, Status> {
        let request = request.into_inner();
        let (_, old) = x509_parser::parse_x509_certificate(&request.certificate).unwrap();
        let key = &old.public_key().subject_public_key.data;
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key)
            .verify(&request.certificate_request, &request.signature)
            .map_err(|_| Status::permission_denied("not signed by the old key"))?;
        Ok(Response::new(self.issue(&request.certificate_request)))
    }
}

impl Service {
    fn issue(&self, request: &[u8]) -> wire::EnrolReply {
        // The public key of the request, in a certificate of our own making.
        let (_, parsed) =
            <x509_parser::certification_request::X509CertificationRequest<'_> as x509_parser::prelude::FromDer<'_, _>>::from_der(request).unwrap();
        let spki = parsed.certification_request_info.subject_pki.raw;
        let public_key = rcgen::SubjectPublicKeyInfo::from_der(spki).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, AGENT_ID);
        let certificate = params.signed_by(&public_key, &self.0.issuer).unwrap();
        wire::EnrolReply {
            certificate_chain: vec![certificate.der().to_vec()],
            trusted_roots: vec![self.0.root.to_vec()],
            agent_id: AGENT_ID.to_owned(),
        }
    }
}

/// One connection: TLS, then HTTP/2, then whichever service the path names.
async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, service: Service) {
    let Ok(tls) = acceptor.accept(tcp).await else {
        // A failed handshake is the client's affair.
        return;
    };
    let has_certificate = tls.get_ref().1.peer_certificates().is_some();
    let uplink = UplinkServer::new(service.clone());
    let enrolment = EnrolmentServer::new(service);
    let dispatch = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let is_uplink = request.uri().path().starts_with("/extranet.v1.Uplink/");
        assert!(
            has_certificate || !is_uplink,
            "the uplink is for agents with a certificate"
        );
        let (mut uplink, mut enrolment) = (uplink.clone(), enrolment.clone());
        async move {
            if is_uplink {
                uplink.call(request).await
            } else {
                enrolment.call(request).await
            }
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(tls), dispatch);
    // However it ends: what was seen counts.
    drop(connection.await);
}
