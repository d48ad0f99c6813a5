//! A collector with its engines and agents, each with a configuration and state of its own in one throw-away folder.
//!
//! The folder is kept when a test fails, and its path printed. One sandbox runs at a time (a lock file beside the
//! binaries): deadlines of whole-system tests are honest only on a machine that does nothing else.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::binary;
use crate::clock::wait_until;
use crate::engine::{Alertmanager, Victoria, free_tcp_port};
use crate::http;
use crate::place::Place;
use crate::process::Process;
use crate::webhook::Webhook;

/// Longest a daemon of ours may take from its start until it serves, on a busy machine with a debug build.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Longest a daemon of ours may take to stop on request.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What differs from one sandbox to the next.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the collector and its engines run.
    pub place: Place,
    /// Address of the place at which agents reach the collector.
    pub listen: IpAddr,
    /// Length of a state slot.
    pub slot: Duration,
    /// How often the collector looks at time passing.
    pub tick: Duration,
    /// Silence after which an agent counts as silent.
    pub silent_after: Duration,
    /// Whether the collector measures too.
    pub vantage: bool,
    /// More lines for the top of collector.toml.
    pub extra: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            place: Place::Host,
            listen: IpAddr::from([127, 0, 0, 1]),
            slot: Duration::from_secs(1),
            tick: Duration::from_millis(500),
            silent_after: Duration::from_mins(5),
            vantage: true,
            extra: String::new(),
        }
    }
}

/// A collector, VictoriaMetrics, Alertmanager and a webhook behind it.
#[derive(Debug)]
pub struct Sandbox {
    settings: Settings,
    collector: Option<Process>,
    listen: SocketAddr,
    statistics: SocketAddr,
    /// Where time series go.
    pub victoria: Victoria,
    /// Where alerts go.
    pub alertmanager: Alertmanager,
    /// Where Alertmanager's notifications go.
    pub webhook: Webhook,
    folder: Folder,
    _one_at_a_time: Flock<File>,
}

impl Sandbox {
    /// Starts everything and waits until the collector serves.
    pub fn start(settings: Settings) -> Self {
        let mut sandbox = Self::prepare(settings);
        sandbox.start_collector();
        sandbox
    }

    /// Starts everything but the collector.
    pub fn prepare(settings: Settings) -> Self {
        let one_at_a_time = lock();
        let folder = Folder::new();
        let place = settings.place.clone();
        let webhook = Webhook::start(&place);
        let victoria = Victoria::start(&place, folder.path());
        let alertmanager = Alertmanager::start(&place, folder.path(), &webhook.url());
        let listen = SocketAddr::new(settings.listen, free_tcp_port(&place));
        let statistics = SocketAddr::from(([127, 0, 0, 1], free_tcp_port(&place)));
        let sandbox = Self {
            settings,
            collector: None,
            listen,
            statistics,
            victoria,
            alertmanager,
            webhook,
            folder,
            _one_at_a_time: one_at_a_time,
        };
        sandbox.write_configuration();
        sandbox
    }

    /// The sandbox's folder: logs, configurations, state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// State folder of the collector.
    pub fn collector_state(&self) -> PathBuf {
        self.folder().join("collector")
    }

    /// Where agents connect.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    fn configuration_path(&self) -> PathBuf {
        self.folder().join("collector.toml")
    }

    fn write_configuration(&self) {
        let Settings {
            slot,
            silent_after,
            tick,
            vantage,
            extra,
            ..
        } = &self.settings;
        let text = format!(
            "listen = \"{listen}\"\nstate_dir = '{state}'\ntick = \"{tick}ms\"\n{extra}\n\
             [state]\nslot = \"{slot}ms\"\nsilent_after = \"{silent}ms\"\n\
             [vantage]\nenabled = {vantage}\n\
             [alertmanager]\nurls = [\"{alertmanager}\"]\nresend = \"2s\"\n\
             [[remote_write]]\nname = \"victoria\"\nurl = \"{victoria}\"\nflush = \"500ms\"\n\
             [self]\nlisten = \"{statistics}\"\n\
             [log]\nfilter = \"info\"\n",
            listen = self.listen,
            state = self.collector_state().display(),
            slot = slot.as_millis(),
            tick = tick.as_millis(),
            silent = silent_after.as_millis(),
            alertmanager = self.alertmanager.url(),
            victoria = self.victoria.write_url(),
            statistics = self.statistics,
        );
        std::fs::write(self.configuration_path(), text).expect("the test's folder is writable");
    }

    /// Starts the collector, which must not run, and waits until it serves.
    pub fn start_collector(&mut self) {
        assert!(self.collector.is_none(), "the collector runs already");
        let program = binary::path("extranet-collector");
        let mut command = self.settings.place.command(&program.to_string_lossy());
        command
            .arg("serve")
            .arg("--config")
            .arg(self.configuration_path());
        let mut process = Process::start("collector", command, self.folder());
        let place = &self.settings.place;
        process.wait_until("statistics", START_PATIENCE, || {
            http::get(place, &metrics_url(self.statistics))?.ok()
        });
        self.collector = Some(process);
    }

    /// Ends the collector without warning.
    pub fn kill_collector(&mut self) {
        self.collector.take().expect("the collector runs").kill();
    }

    /// Asks the collector to stop and waits for it.
    pub fn stop_collector(&mut self) -> ExitStatus {
        self.collector
            .take()
            .expect("the collector runs")
            .stop(STOP_PATIENCE)
    }

    /// The running collector.
    pub fn collector(&mut self) -> &mut Process {
        self.collector.as_mut().expect("the collector runs")
    }

    /// Runs a subcommand of the collector: what it printed, or its error with what it printed.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let program = binary::path("extranet-collector");
        let mut command = self.settings.place.command(&program.to_string_lossy());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.configuration_path());
        let output = command
            .output()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(stdout)
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{arguments:?}: {}: {stdout}{stderr}",
                output.status
            ))
        }
    }

    /// Like [`Self::ask`] for what must succeed.
    pub fn tell(&self, arguments: &[&str]) -> String {
        self.ask(arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Imports access points and targets.
    pub fn import(&self, access_points: &str, targets: &str) {
        let access_points = self.file("access-points.csv", access_points);
        let targets = self.file("targets.csv", targets);
        self.tell(&[
            "import",
            "--access-points",
            &access_points,
            "--targets",
            &targets,
        ]);
    }

    /// Puts a plan in force.
    pub fn apply_plan(&self, plan: &str) {
        let plan = self.file("plan.toml", plan);
        self.tell(&["plan", "apply", &plan]);
    }

    /// A ticket for an access point.
    pub fn ticket(&self, ap_id: &str) -> String {
        let printed = self.tell(&["ticket", "new", "--ap", ap_id]);
        let ticket = printed
            .split_whitespace()
            .find(|word| word.starts_with("ext1-"));
        ticket
            .unwrap_or_else(|| panic!("no ticket in {printed:?}"))
            .to_owned()
    }

    /// Writes a file into the sandbox and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("the test's folder is writable");
        path.to_string_lossy().into_owned()
    }

    fn agent_folder(&self, ap_id: &str) -> PathBuf {
        self.folder().join(format!("agent-{ap_id}"))
    }

    /// State folder of the agent of an access point, for a test that prepares it.
    pub fn agent_state(&self, ap_id: &str) -> PathBuf {
        self.agent_folder(ap_id).join("state")
    }

    /// Enrols and starts an agent that stands at an access point, in a place, and reaches the collector at `collector`
    /// (itself or a proxy). `extra` goes to the top of agent.toml.
    pub fn agent(&self, ap_id: &str, place: &Place, collector: SocketAddr, extra: &str) -> Agent {
        let folder = self.agent_folder(ap_id);
        std::fs::create_dir_all(&folder).expect("the test's folder is writable");
        let statistics = SocketAddr::from(([127, 0, 0, 1], free_tcp_port(place)));
        let ticket = folder.join("ticket");
        std::fs::write(&ticket, self.ticket(ap_id)).expect("the test's folder is writable");
        let text = format!(
            "collectors = [\"{collector}\"]\nstate_dir = '{state}'\nticket_file = '{ticket}'\n{extra}\n\
             [self]\nlisten = \"{statistics}\"\n[log]\nfilter = \"info\"\n\
             [uplink]\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n",
            state = folder.join("state").display(),
            ticket = ticket.display(),
        );
        std::fs::write(folder.join("agent.toml"), text).expect("the test's folder is writable");
        let mut agent = Agent {
            name: format!("agent-{ap_id}"),
            place: place.clone(),
            folder,
            statistics,
            process: None,
        };
        agent.start();
        agent
    }

    /// Waits until everything in the log was read by the exporters; what they hold, they send when they stop.
    pub fn wait_exported(&self, patience: Duration) {
        wait_until("the export to catch up", patience, || {
            let lag = self
                .statistics()?
                .sum("extranet_collector_export_lag_records");
            if lag < 0.5 {
                Ok(())
            } else {
                Err(format!("{lag} records behind"))
            }
        });
    }

    /// No task or thread of the running collector has panicked.
    pub fn must_not_have_panicked(&self) {
        let statistics = self.statistics().unwrap_or_else(|error| panic!("{error}"));
        let panics = statistics.sum("extranet_collector_panics");
        assert!(panics < 0.5, "{panics} panics in the collector");
    }

    /// Where the collector serves its statistics.
    pub fn statistics_address(&self) -> SocketAddr {
        self.statistics
    }

    /// Statistics of the collector about itself.
    pub fn statistics(&self) -> Result<Statistics, String> {
        Statistics::fetch(&self.settings.place, self.statistics)
    }
}

/// An agent with its own folder.
#[derive(Debug)]
pub struct Agent {
    name: String,
    place: Place,
    folder: PathBuf,
    statistics: SocketAddr,
    process: Option<Process>,
}

impl Agent {
    /// Starts the agent, which must not run, and waits until it serves its statistics.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let program = binary::path("extranet-agent");
        let mut command = self.place.command(&program.to_string_lossy());
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.join("agent.toml"));
        let mut process = Process::start(&self.name, command, &self.folder);
        process.wait_until("statistics", START_PATIENCE, || {
            http::get(&self.place, &metrics_url(self.statistics))?.ok()
        });
        self.process = Some(process);
    }

    /// Ends the agent without warning.
    pub fn kill(&mut self) {
        self.process.take().expect("the agent runs").kill();
    }

    /// Asks the agent to stop and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        self.process
            .take()
            .expect("the agent runs")
            .stop(STOP_PATIENCE)
    }

    /// The running agent.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }

    /// State folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where the agent serves its statistics.
    pub fn statistics_address(&self) -> SocketAddr {
        self.statistics
    }

    /// Statistics of the agent about itself.
    pub fn statistics(&self) -> Result<Statistics, String> {
        Statistics::fetch(&self.place, self.statistics)
    }

    /// Waits until no more records are without an acknowledgement than `live` results, which keep coming.
    pub fn wait_drained(&self, live: u32, patience: Duration) {
        let most = f64::from(live) + 0.5;
        wait_until(&format!("{} to be drained", self.name), patience, || {
            let statistics = self.statistics()?;
            let waiting = statistics.value("extranet_agent_spool_waiting_records")?;
            if waiting < most {
                Ok(())
            } else {
                Err(format!("{waiting} records wait"))
            }
        });
    }
}

/// A page of OpenMetrics text.
#[derive(Debug, Clone)]
pub struct Statistics(String);

impl Statistics {
    fn fetch(place: &Place, address: SocketAddr) -> Result<Self, String> {
        http::get(place, &metrics_url(address))?.ok().map(Self)
    }

    /// The value of one sample by its name with labels, as it is written: `name_total{reason="full"}`.
    pub fn value(&self, sample: &str) -> Result<f64, String> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
            .ok_or_else(|| format!("{sample} is not in:\n{}", self.0))
    }

    /// The sum of all samples of a name, whatever their labels; 0 when there is none.
    pub fn sum(&self, name: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = rest.strip_prefix(' ').or_else(|| {
                let (labels, value) = rest.rsplit_once(' ')?;
                labels.starts_with('{').then_some(value)
            })?;
            value.parse::<f64>().ok()
        });
        values.fold(0.0, |sum, value| sum + value)
    }
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}

/// Waits until no other whole-system test runs, and keeps others waiting.
pub(crate) fn lock() -> Flock<File> {
    let path = binary::profile_folder().join("laboratory.lock");
    let file = File::create(&path)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
    Flock::lock(file, FlockArg::LockExclusive).expect("a lock on a local file can be waited for")
}

/// A throw-away folder that stays when its test fails.
#[derive(Debug)]
struct Folder(Option<TempDir>);

impl Folder {
    fn new() -> Self {
        Self(Some(
            tempfile::Builder::new()
                .prefix("extranet-")
                .tempdir()
                .expect("/tmp is writable"),
        ))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().expect("taken on drop only").path()
    }
}

impl Drop for Folder {
    #[expect(clippy::print_stderr, reason = "this is the report of a failed test")]
    fn drop(&mut self) {
        if let Some(folder) = self.0.take().filter(|_| std::thread::panicking()) {
            eprintln!("the sandbox is kept in {}", folder.keep().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_found_by_name_and_labels() {
        let page = "# HELP a_total x\na_total{reason=\"x y\"} 3\na_total{reason=\"z\"} 4\nab_total 9\nb 1.5\n# EOF\n";
        let statistics = Statistics(page.to_owned());
        assert_eq!(
            statistics
                .value("a_total{reason=\"z\"}")
                .unwrap()
                .to_string(),
            "4"
        );
        assert_eq!(statistics.value("b").unwrap().to_string(), "1.5");
        assert_eq!(statistics.sum("a_total").to_string(), "7");
        assert_eq!(statistics.sum("missing").to_string(), "0");
        assert!(statistics.value("missing").is_err());
    }
}
