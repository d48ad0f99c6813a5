//! A client of the uplink that says whatever it likes: wire messages without any of the agent's manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::config::{Config, HostPort};
use extranet_agent::dial::dial;
use extranet_agent::identity::ticket::Ticket;
use extranet_agent::identity::tls::{self, CertificateTime};
use extranet_agent::identity::{self, Identity};
use extranet_proto::UPLINK_SERVER_NAME;
use extranet_proto::wire::agent_message::Message;
use extranet_proto::wire::collector_message;
use extranet_proto::wire::uplink_client::UplinkClient;
use extranet_proto::wire::{self, AgentMessage, Hello};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Longest the collector may take to react.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the collector said last.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Said(Box<collector_message::Message>),
    /// It ended the stream with a status.
    Ended(Status),
}

/// An open stream.
#[derive(Debug)]
pub struct Rogue {
    runtime: Arc<Runtime>,
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<wire::CollectorMessage>,
}

fn runtime() -> Arc<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    Arc::new(runtime)
}

/// Configuration of an agent that knows one collector.
fn configuration(collector: SocketAddr) -> Config {
    let address = HostPort {
        host: collector.ip().to_string(),
        port: collector.port(),
    };
    Config {
        collectors: vec![address],
        ..Config::default()
    }
}

fn time() -> CertificateTime {
    CertificateTime::new(Clock::system(), 0)
}

/// Turns a ticket into an identity, or says why not.
pub fn enrol(collector: SocketAddr, ticket: &str) -> Result<Identity, String> {
    let ticket: Ticket = ticket.parse().map_err(|error| format!("{error}"))?;
    let configuration = configuration(collector);
    runtime()
        .block_on(identity::enrol(&configuration, &ticket, time()))
        .map_err(|error| extranet_agent::shell::error_chain(&error))
}

/// A proper hello, to be spoiled.
pub fn hello() -> Hello {
    let reading = Clock::system().read();
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "rogue".to_owned(),
        boot_id: vec![7; 16],
        incarnation: 0x0bad_c0de,
        clock: Some(wire::Clock {
            wall_us: reading.wall_us,
            boottime_us: reading.boottime_us,
            synchronised: true,
        }),
        ledger: Some(wire::Ledger::default()),
        ..Hello::default()
    }
}

impl Rogue {
    /// Opens a stream and says `first`.
    pub fn open(
        collector: SocketAddr,
        identity: &Identity,
        first: Message,
    ) -> Result<Self, String> {
        let runtime = runtime();
        let (outgoing, messages) = mpsc::channel(16);
        let incoming = runtime.block_on(async {
            let configuration = configuration(collector);
            let tls = tls::mutual(identity, time()).map_err(|error| error.to_string())?;
            let address = configuration.collectors.first().expect("there is one");
            let channel = dial(
                address,
                tls,
                UPLINK_SERVER_NAME,
                &configuration.uplink,
                None,
            )
            .await
            .map_err(|error| extranet_agent::shell::error_chain(&error))?;
            outgoing
                .send(AgentMessage {
                    message: Some(first),
                })
                .await
                .map_err(|error| error.to_string())?;
            let mut client = UplinkClient::new(channel);
            let stream = client.exchange(ReceiverStream::new(messages)).await;
            stream
                .map(tonic::Response::into_inner)
                .map_err(|status| status.to_string())
        })?;
        Ok(Self {
            runtime,
            outgoing,
            incoming,
        })
    }

    /// Says something more. What the collector does not read any more is lost.
    pub fn say(&self, message: Message) {
        self.runtime
            .block_on(self.outgoing.send(AgentMessage {
                message: Some(message),
            }))
            .ok();
    }

    /// Waits for the next message or the end.
    pub fn hear(&mut self) -> Heard {
        let next = async { tokio::time::timeout(PATIENCE, self.incoming.message()).await };
        let heard = self.runtime.block_on(next);
        match heard.unwrap_or_else(|_| panic!("the collector did not react within {PATIENCE:?}")) {
            Ok(Some(message)) => {
                let known = message
                    .message
                    .expect("the collector says what this build knows");
                Heard::Said(Box::new(known))
            }
            Ok(None) => Heard::Ended(Status::ok("")),
            Err(status) => Heard::Ended(status),
        }
    }

    /// Waits for the end, whatever is said before.
    pub fn hear_end(&mut self) -> Status {
        loop {
            if let Heard::Ended(status) = self.hear() {
                return status;
            }
        }
    }
}
