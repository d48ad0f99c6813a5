//! A Debian machine: a container with systemd as its process 1, so that packages are installed, started, killed, booted
//! and purged as on a real one.
//!
//! ```text
//! target/laboratory/debian-CODENAME   made once by debootstrap, never changed
//!   \_ overlay                        what this machine writes, in the test's folder
//!        \_ systemd-nspawn --boot     own processes, own mounts, no network but loopback
//! ```
//!
//! The overlay is mounted in a mount namespace of the container's own, and the container is killed with the test:
//! nothing stays on the host but the image.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::binary::profile_folder;
use crate::clock::wait_until;
use crate::place::Place;
use crate::process::Process;
use crate::sandbox;

/// Longest a boot may take: half a second on an idle machine.
const BOOT_PATIENCE: Duration = Duration::from_mins(1);

/// Longest a killed container may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// What the image holds beside Debian's minimum. Part of its name, so that another list makes another image.
const PACKAGES: &str = "systemd-sysv";

/// Number of the next machine of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Joins the control groups, mounts the machine's disk and runs the container until it is switched off. Arguments: image, folder, name,
/// shared folder, control groups.
const BOOT: &str = r#"
set -e
image=$1 folder=$2 name=$3 shared=$4
shift 4
for group; do echo 0 >"$group/cgroup.procs"; done
mount -t overlay overlay -o "lowerdir=$image,upperdir=$folder/written,workdir=$folder/work" "$folder/root"
# What systemd-nspawn keeps about its containers, so that it is gone with this one.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
status=133
# With --keep-unit systemd-nspawn leaves a restart of the machine to its caller.
while [ "$status" = 133 ]; do
  status=0
  systemd-nspawn --quiet --boot --directory="$folder/root" --machine="$name" --private-network \
    --bind="$shared:/srv" --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \
    --console=pipe || status=$?
done
exit "$status"
"#;

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    container: Option<Process>,
    control_groups: Vec<PathBuf>,
    _one_at_a_time: Flock<File>,
}

impl Machine {
    /// Boots a fresh machine that keeps what it writes in `folder` and sees `shared` as `/srv`.
    pub fn boot(folder: &Path, shared: &Path) -> Self {
        let image = image();
        let one_at_a_time = sandbox::lock();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("extlab-{}-{number}", std::process::id());
        for inside in ["written", "work", "root"] {
            std::fs::create_dir_all(folder.join(inside)).expect("the test's folder is writable");
        }
        let control_groups = make_control_groups(&name);
        let mut command = Place::Host.command("unshare");
        command
            // A process namespace around the container's own: it ends with this process, and everything inside with
            // it. Killing systemd-nspawn alone would leave its process 1.
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", BOOT, "boot"])
            .arg(image)
            .args([folder.as_os_str(), name.as_ref(), shared.as_os_str()])
            .args(&control_groups)
            .env_clear()
            .env("PATH", PATH);
        let machine = Self {
            container: Some(Process::start("machine", command, folder)),
            control_groups,
            _one_at_a_time: one_at_a_time,
        };
        machine.wait_booted();
        machine
    }

    fn container(&self) -> &Process {
        self.container.as_ref().expect("taken by drop only")
    }

    /// Process 1 of the machine, as the host numbers it: the child of systemd-nspawn.
    fn systemd(&self) -> Result<u32, String> {
        let is_named = |id: u32, name: &str| {
            std::fs::read_to_string(format!("/proc/{id}/comm"))
                .is_ok_and(|line| line.trim_end() == name)
        };
        let namespace_init = children(self.container().id());
        let nspawn = namespace_init.into_iter().flat_map(children);
        nspawn
            .filter(|id| is_named(*id, "systemd-nspawn"))
            .flat_map(children)
            .find(|id| is_named(*id, "systemd"))
            .ok_or_else(|| "no systemd yet".to_owned())
    }

    fn wait_booted(&self) {
        wait_until("the machine to boot", BOOT_PATIENCE, || {
            let output = self.start("systemctl", &["is-system-running"], "")?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match state.as_str() {
                "running" => Ok(()),
                "degraded" => Err(self.run("systemctl", &["--failed", "--no-pager"])?),
                _ => Err(state),
            }
        });
    }

    /// Restarts the machine; its disk stays.
    pub fn reboot(&self) {
        let before = self.systemd().unwrap_or_else(|error| panic!("{error}"));
        self.tell("systemctl", &["reboot"]);
        wait_until("another systemd", BOOT_PATIENCE, || {
            match self.systemd()? {
                now if now == before => Err("still the old one".to_owned()),
                _ => Ok(()),
            }
        });
        self.wait_booted();
    }

    fn start(&self, program: &str, arguments: &[&str], input: &str) -> Result<Output, String> {
        let mut command = Place::Host.command("nsenter");
        command
            .args(["--all", "--target", &self.systemd()?.to_string(), "--"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("nsenter: {error}"))?;
        let mut stdin = child.stdin.take().expect("it is piped");
        // A program that does not read its input closes it, which is its own business.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        child
            .wait_with_output()
            .map_err(|error| format!("{program}: {error}"))
    }

    /// Runs a program as root inside: what it printed on standard output and error, as an error when it failed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        self.run_with(program, arguments, "")
    }

    /// Like [`Self::run`] with a text on standard input.
    pub fn run_with(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let output = self.start(program, arguments, input)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!(
                "{program} {arguments:?}: {}: {text}",
                output.status
            ))
        }
    }

    /// Like [`Self::run`] for what must succeed.
    pub fn tell(&self, program: &str, arguments: &[&str]) -> String {
        self.run(program, arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a shell script that must succeed.
    pub fn shell(&self, script: &str) -> String {
        self.tell("bash", &["-euo", "pipefail", "-c", script])
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        self.run_with("sh", &["-c", "cat >\"$1\"", "sh", path], text)
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "this is the report of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            match self.run("journalctl", &["--no-pager", "--lines=150"]) {
                Ok(journal) => eprintln!("--- journal of the machine ---\n{journal}"),
                Err(error) => eprintln!("--- no journal of the machine: {error}"),
            }
        }
        drop(self.container.take());
        for group in &self.control_groups {
            remove_control_group(group);
        }
    }
}

/// Where programs are, inside and outside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Child processes; none when the process is gone.
fn children(id: u32) -> Vec<u32> {
    let list =
        std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// Makes a group of this name in the hierarchies in which systemd keeps its units: the unified one, and the one it names
/// itself where the controllers are still separate ("hybrid").
fn make_control_groups(name: &str) -> Vec<PathBuf> {
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").expect("the kernel lists its mounts");
    // "... MOUNT-POINT OPTIONS [FIELDS] - TYPE SOURCE SUPER-OPTIONS"
    let points = mounts.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let wanted = file_system.starts_with("cgroup2 ") || file_system.contains("name=systemd");
        wanted.then(|| mount.split(' ').nth(4)).flatten()
    });
    let groups: Vec<_> = points.map(|point| Path::new(point).join(name)).collect();
    assert!(!groups.is_empty(), "no control groups in:\n{mounts}");
    for group in &groups {
        std::fs::create_dir(group)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", group.display()));
    }
    groups
}

/// Removes a group and those inside as soon as their processes are gone.
fn remove_control_group(group: &Path) {
    let inside = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_control_group(&entry.path());
    }
    // Not a reason to fail a test, or to panic while one fails.
    let started = crate::clock::now();
    while std::fs::remove_dir(group).is_err() && started.elapsed() < END_PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The image: Debian of the host's own release, for which the binaries are built. The first time this takes a minute or
/// two and needs Debian's archive.
fn image() -> PathBuf {
    let release = std::fs::read_to_string("/etc/os-release").expect("Debian says what it is");
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .expect("a release of Debian has a name");
    let target = profile_folder()
        .parent()
        .expect("a profile folder lies in a target folder")
        .to_owned();
    let folder = target.join("laboratory");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    let lock = File::create(folder.join("lock")).expect("the target folder is writable");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a local file can be locked");
    let image = folder.join(format!("debian-{codename}-{PACKAGES}"));
    if image.try_exists().expect("the target folder is readable") {
        return image;
    }
    let partial = folder.join("partial");
    if partial.try_exists().expect("the target folder is readable") {
        std::fs::remove_dir_all(&partial).expect("what an interrupted run left can be removed");
    }
    // In a mount namespace of its own: an interrupted run must not leave mounts behind in the folder.
    let output = Command::new("unshare")
        .args(["--mount", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={PACKAGES}"))
        .arg(codename)
        .arg(&partial)
        .output()
        .unwrap_or_else(|error| panic!("cannot run debootstrap: {error}"));
    assert!(
        output.status.success(),
        "debootstrap: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    std::fs::rename(&partial, &image).expect("both lie in one folder");
    image
}
