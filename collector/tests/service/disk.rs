//! A disk that is full: nothing is acknowledged, nothing crashes, and it goes on when there is room.

use std::process::Command;

use extranet_proto::block;
use extranet_proto::wire;
use extranet_proto::wire::agent_message::Message as Up;
use extranet_proto::wire::collector_message::Message as Down;

use crate::place::{Site, hello, records};

/// A small file system in memory, gone with the value. Needs root, as the whole laboratory does.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("the test's folder is writable");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(at));
        Self(at.to_owned())
    }

    fn resize(&self, size: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{size}")])
            .arg(&self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failing test may still hold files there.
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("mount and umount are installed");
    assert!(status.success(), "{command:?}: {status}");
}

fn large(first_sequence: u64) -> Up {
    let block = block::encode(&records(first_sequence, 1_000, 200));
    Up::Batch(wire::Batch {
        first_sequence,
        block,
        ..wire::Batch::default()
    })
}

#[tokio::test]
async fn a_full_disk_stops_acknowledgements_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("state/ingest");
    let disk = SmallDisk::mount(&log, "size=3m");
    let mut site = Site::start_in(folder).await;
    let identity = {
        use extranet_proto::wire::admin_server::Admin;
        let csv = "ap_id,name,level,parent,monitoring\nap-1,a,village,centre,agent\n";
        let request = wire::ImportRequest {
            access_points_csv: csv.into(),
            ..wire::ImportRequest::default()
        };
        site.running()
            .admin
            .import(tonic::Request::new(request))
            .await
            .unwrap();
        site.agent("ap-1").await
    };
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    // One after another, until the disk is full.
    let mut durable = 0;
    let told = loop {
        assert!(durable < 1_000_000, "the disk never got full");
        stream.say(large(durable)).await;
        match stream.next().await.unwrap() {
            Down::Ack(_) => durable += 1_000,
            other => break other,
        }
    };
    assert!(durable > 0);
    let Down::Wait(wait) = told else {
        panic!("{told:?}")
    };
    assert!(wait.reason.contains("log"), "{}", wait.reason);
    site.await_counter(
        "extranet_collector_session_closed_total{reason=\"not_durable\"}",
        1,
    )
    .await;
    // Coming back does not help yet: the session itself cannot be logged.
    let mut early = site.open(&identity).await.unwrap();
    early.say(Up::Hello(hello(1))).await;
    assert!(matches!(early.next_any().await.unwrap(), Down::Wait(_)));
    drop(early);

    disk.resize("size=64m");
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    stream.say(large(durable)).await;
    stream.await_ack(1, durable, durable + 1_000).await;
    drop(stream);
    site.stop().await;
    assert_eq!(
        site.logged_sequences(1),
        (0..durable + 1_000).collect::<Vec<_>>()
    );
    drop(site);
    drop(disk);
}
