//! How long it takes. `cargo nextest run -p writ-workload --run-ignored only --no-capture measure`, best in release.

use std::time::{Duration, Instant};

use writ_workload::proto::X509svidRequest;

use crate::world::{World, entitled, meant, run_id, soon};

const SOCKET: &str = "WRIT_TEST_FIRST_SVID";

fn shown(what: &str, mut all: Vec<Duration>) -> Duration {
    all.sort();
    let at = |part: usize| all[(all.len() - 1) * part / 100];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?} ({} times)", at(50), at(99), at(100), all.len());
    at(99)
}

/// The other side of the first measurement: this program again, as a workload that starts.
#[tokio::test]
#[ignore = "part of a measurement"]
async fn measure_workload() {
    let Ok(endpoint) = std::env::var(SOCKET) else { return };
    let client = spiffe::WorkloadApiClient::connect_to(endpoint).await.unwrap();
    loop {
        match client.fetch_x509_svid().await {
            Ok(_) => return println!("identified"),
            // The parent registers the process after it has started it.
            Err(spiffe::WorkloadApiError::NoIdentityIssued) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_from_start_to_first_svid() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let world = World::new().await;
    let mut all = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "measure::measure_workload", "--ignored", "--nocapture"])
            .env(SOCKET, world.endpoint())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        world.processes.entitle(child.id(), &[entitled("coder", 1)]);
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let took = tokio::task::spawn_blocking(move || {
            lines.map(Result::unwrap).find(|line| line.contains("identified")).expect("it got its identity");
            begun.elapsed()
        });
        all.push(soon("the identity", took).await.unwrap());
        child.wait().unwrap();
    }
    let most = shown("process start to first X509-SVID", all);
    assert!(most < Duration::from_millis(500));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_from_registration_to_update() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    soon("svids", svids.message()).await.unwrap();
    let mut all = Vec::new();
    for run in 2..102 {
        let begun = Instant::now();
        world.processes.entitle(std::process::id(), &[entitled("coder", run)]);
        let message = soon("the change", svids.message()).await.unwrap().unwrap();
        all.push(begun.elapsed());
        assert_eq!(message.svids[0].spiffe_id, run_id("coder", run).as_str());
    }
    assert!(shown("changed registration to stream update", all) < Duration::from_secs(1));
    let mut all = Vec::new();
    for n in 0..20 {
        let begun = Instant::now();
        world.federate(&format!("other-{n}.example")).await;
        soon("the change", svids.message()).await.unwrap().unwrap();
        all.push(begun.elapsed());
    }
    assert!(shown("changed bundle to stream update", all) < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_svids_per_second() {
    let world = World::new().await;
    world.entitle_me();
    let client = world.raw().await;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    let svids = client.fetch_x509svid(meant(X509svidRequest {})).await;
                    svids.unwrap().into_inner().message().await.unwrap().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("X509-SVIDs fetched over the socket: {:.0}/s", 4_000.0 / begun.elapsed().as_secs_f64());
}
