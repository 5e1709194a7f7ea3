//! What durable evidence costs: `cargo run --release -p writ-evidence --example append_cost`.
//!
//! An action is an intent that is waited for and a receipt that is not. CPU time is that of the whole process: encode,
//! frame, write, wake-ups, and in the background tiles, hashes, checkpoints and index. Run it on the disk that counts:
//! `TMPDIR` says where.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::expect_used, reason = "it is a measurement; what fails is to be seen")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use writ_core::event::{ActionIntended, Event, Leaf};
use writ_core::{ActionId, Clock, Reason};
use writ_evidence::{Log, LogSettings, tree};
use writ_gate::{Record, abandoned};
use writ_host::SystemClock;

const LASTS: Duration = Duration::from_secs(4);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    println!("| intents at once | durable actions/s | appends/s | p50 us | p99 us | CPU us per action |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for tasks in [1, 16, 64] {
        row(tasks).await;
    }
    stages();
}

async fn row(tasks: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = LogSettings {
        dir: folder.path().join("evidence"),
        origin: "bench.example/evidence".to_owned(),
        key_file: folder.path().join("key"),
    };
    let log = Log::open(settings, Arc::new(SystemClock)).expect("a log");
    let recorder = log.recorder();
    let (began, cpu) = (SystemClock.monotonic(), cpu());
    let work = (0..tasks).map(|task| tokio::spawn(act(Arc::clone(&recorder), task, began + LASTS)));
    let mut waits = Vec::new();
    for task in work.collect::<Vec<_>>() {
        waits.extend(task.await.expect("a task that ends"));
    }
    let took = SystemClock.monotonic().saturating_sub(began).as_secs_f64();
    log.close().await.expect("a log that closes");
    let cpu = self::cpu().saturating_sub(cpu);
    waits.sort_unstable();
    let count = waits.len();
    let at = |part: usize| waits.get(count * part / 100).copied().unwrap_or_default().as_micros();
    let actions = f64::from(u32::try_from(count).expect("not that many"));
    println!(
        "| {tasks} | {:.0} | {:.0} | {} | {} | {:.1} |",
        actions / took,
        2.0 * actions / took,
        at(50),
        at(99),
        cpu.as_secs_f64() * 1e6 / actions
    );
}

async fn act(recorder: Arc<dyn Record>, task: usize, until: Duration) -> Vec<Duration> {
    let (mut waits, mut intent) = (Vec::new(), sample());
    for number in 0u128.. {
        let began = SystemClock.monotonic();
        if began >= until {
            break;
        }
        intent.action = ActionId::from_bits((task as u128) << 48 | number);
        let ticket = recorder.intent(intent.clone()).await.expect("a durable intent");
        waits.push(SystemClock.monotonic().saturating_sub(began));
        recorder.receipt(ticket, abandoned(&intent, Reason::ClientGone).into());
    }
    waits
}

/// What the parts cost by themselves.
fn stages() {
    let leaf = Leaf { event: Event::from(sample()), seq: 1_000_000, time: SystemClock.now() };
    let bytes = leaf.encode().expect("a leaf");
    let encode = each(|| leaf.encode().map(|bytes| bytes.len()).unwrap_or_default());
    let hash = each(|| usize::from(tree::leaf_hash(&bytes)[0]));
    let copy = each(|| black_box(leaf.event.clone()).kind().len());
    println!(
        "\nOne intent of {} bytes: encode {encode} ns, hash {hash} ns, copy (the bench's own) {copy} ns.",
        bytes.len()
    );
}

fn each(mut work: impl FnMut() -> usize) -> u128 {
    const TIMES: u32 = 100_000;
    let began = SystemClock.monotonic();
    for _ in 0..TIMES {
        black_box(work());
    }
    (SystemClock.monotonic().saturating_sub(began) / TIMES).as_nanos()
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The intent of an ordinary request.
fn sample() -> ActionIntended {
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let hop = |kind: &str, name: &str| format!(r#"{{"how":"observed","kind":"{kind}","name":"{name}"}}"#);
    let path =
        [hop("human", "unix:ann"), hop("run", id), hop("exec", "/usr/bin/bash"), hop("exec", "/usr/bin/git")];
    let text = format!(
        r#"{{"v":1,"seq":0,"time_us":1,"kind":"action.intended","body":{{"action":"{id}","actor":{{"agent":"coder",
        "human":"unix:ann","run":"{id}","session":"{id}","spiffe_id":"spiffe://example.org/agent/coder/run/{id}"}},
        "assurance":"kernel","conn":"{id}","keys":{{"agent":{{"permitted":true,"policies":["coder-reads-forge"]}},
        "human":{{"permitted":true,"policies":["developers-read-forge"]}},"policy_digest":"{digest}"}},
        "process":{{"exec_generation":2,"pid":4711,"start_us":81546000}},"request":{{"arguments":{{"owner":"acme",
        "repo":"site"}},"effect":"read","host":"forge.example.org","method":"GET","operation":"forge/repos.get",
        "path":"/api/repos/acme/site","service":"forge"}},"tool_path":[{path}]}}}}"#,
        digest = "ab".repeat(32),
        path = path.join(",")
    );
    let event = Leaf::decode(text.as_bytes()).expect("a leaf").event;
    let Event::ActionIntended(intent) = event else { unreachable!("the sample is an intent") };
    *intent
}
