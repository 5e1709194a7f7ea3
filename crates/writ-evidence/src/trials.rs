//! The whole log under faults: whatever happens at whichever step, what was acknowledged is there afterwards, every
//! intent has one receipt, and the log verifies.

use std::path::Path;
use std::sync::Arc;

use writ_core::clock::ManualClock;
use writ_core::event::{ActionClosed, ActionIntended, Event, Leaf, NodeStarted, NodeStopped, Outcome};
use writ_core::{ActionId, Assurance, Timestamp};
use writ_gate::{Record, Ticket};
use writ_testkit::wait::until;

use crate::index::Index;
use crate::log::Log;
use crate::note::{Signer, VerifierKey};
use crate::query::Query;
use crate::storage::faulty::{Fault, Faulty, Files};
use crate::verify::{Report, verify_each, verify_storage};

const ORIGIN: &str = "example.org/evidence";

fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn key() -> VerifierKey {
    signer().verifier().clone()
}

fn open(disk: &Faulty, index: &Path) -> Result<Log, crate::Error> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000)));
    Log::assemble(Arc::new(disk.clone()), signer(), Index::open(index)?, clock)
}

fn verified(disk: &Faulty) -> Report {
    verify_storage(disk, &key(), None).unwrap_or_else(|error| panic!("{error}"))
}

/// An intent with this number; long enough that some tens of them fill a segment.
pub(crate) fn intent(number: u128) -> ActionIntended {
    let id = ActionId::from_bits(1 << 80 | number);
    let path = format!("/{number}/{}", "x".repeat(900));
    let text = format!(
        r#"{{"v":1,"seq":0,"time_us":1,"kind":"action.intended","body":{{"action":"{id}","actor":{{
        "agent":"coder","human":"unix:ann","run":"{id}","session":"{id}",
        "spiffe_id":"spiffe://example.org/agent/coder/run/{id}"}},"assurance":"kernel","conn":"{id}",
        "keys":{{"agent":{{"permitted":true,"policies":["a"]}},"human":{{"permitted":true,"policies":["h"]}},
        "policy_digest":"00"}},"process":{{"exec_generation":1,"pid":1,"start_us":1}},"request":{{
        "arguments":{{}},"effect":"read","host":"forge.test","method":"GET","operation":"forge/read",
        "path":"{path}","service":"forge"}},"tool_path":[]}}}}"#
    );
    let Event::ActionIntended(intent) = Leaf::decode(text.as_bytes()).unwrap().event else { panic!() };
    *intent
}

pub(crate) fn receipt(intent: &ActionIntended) -> Event {
    let abandoned = writ_gate::abandoned(intent, writ_core::Reason::ClientGone);
    ActionClosed { outcome: Outcome::Completed, reason: None, ..abandoned }.into()
}

fn started() -> Event {
    NodeStarted { assurance: Assurance::Kernel, dangers: vec![], version: "1".into() }.into()
}

fn stopped() -> Event {
    NodeStopped { cut: 0 }.into()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What the log promised: intents that it said are durable, and receipts that it took.
#[derive(Default)]
struct Promised {
    intents: Vec<ActionId>,
    receipts: Vec<ActionId>,
}

/// Forty actions in waves of four, one of each wave without its receipt until the end, and one never.
async fn work(recorder: &dyn Record, from: u128) -> Promised {
    let mut promised = Promised::default();
    let mut held: Vec<(Ticket, ActionIntended)> = Vec::new();
    let _may_fail = recorder.fact(started()).await;
    for wave in 0..10u128 {
        let intents: Vec<_> = (0..4).map(|n| intent(from + wave * 4 + n)).collect();
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| recorder.intent(intents[n].clone()));
        let answers = tokio::join!(a, b, c, d);
        for (answer, intent) in [answers.0, answers.1, answers.2, answers.3].into_iter().zip(intents) {
            if let Ok(ticket) = answer {
                promised.intents.push(intent.action);
                held.push((ticket, intent));
            }
        }
        for (ticket, intent) in held.drain(..held.len().saturating_sub(1)) {
            promised.receipts.push(intent.action);
            recorder.receipt(ticket, receipt(&intent));
        }
        recorder.note(stopped());
    }
    // Neither spent nor dropped: as if the process died with the action under way.
    for (ticket, _) in held {
        std::mem::forget(ticket);
    }
    promised
}

fn leaves(log: &Log) -> Vec<Leaf> {
    let mut reader = log.read(Query::default());
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// What a trial begins with: a log that was killed twice, whose last bundle is nearly full under its checkpoint.
fn before() -> Files {
    let disk = Faulty::new(Files::new(), Fault::None);
    for from in [0, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&disk, &folder.path().join("index")).unwrap();
        block_on(work(&*log.recorder(), from));
        log.kill();
    }
    let folder = tempfile::tempdir().unwrap();
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(log.close()).unwrap();
    assert!((150..250).contains(&verified(&disk).checkpoint.size));
    disk.files()
}

/// Works on a disk with this fault, then opens what is left and checks it. Gives the number of steps.
fn trial(before: &Files, fault: Fault, seed: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(before.clone(), fault);
    let promised = match open(&disk, &folder.path().join("index")) {
        Ok(log) => block_on(async {
            let promised = work(&*log.recorder(), 10_000).await;
            if matches!(fault, Fault::PowerCut(_)) {
                // The cut may come while a checkpoint is made. Nobody can close a log whose disk is gone; what it
                // holds in memory is lost with the process.
                drop(log.shared().archive_new());
                log.kill();
            } else if let Err(error) = log.close().await {
                assert_ne!(fault, Fault::None, "{error}");
            }
            promised
        }),
        Err(error) => {
            assert_ne!(fault, Fault::None, "{error}");
            Promised::default()
        }
    };
    let steps = disk.steps();
    let rest = match fault {
        Fault::PowerCut(_) => disk.after_power_cut(seed),
        Fault::None | Fault::Fails(_) | Fault::FailsButPersists(_) | Fault::Full => disk.files(),
    };
    let disk = Faulty::new(rest, Fault::None);
    let log =
        open(&disk, &folder.path().join("index")).unwrap_or_else(|error| panic!("{fault:?} {seed}: {error}"));
    let found = leaves(&log);
    for (seq, leaf) in (0..).zip(&found) {
        assert_eq!(leaf.seq, seq, "{fault:?}");
    }
    let intents = |id: &ActionId| matches_intent(&found, *id);
    assert!(promised.intents.iter().all(intents), "{fault:?} {seed}: an acknowledged intent is gone");
    if !matches!(fault, Fault::PowerCut(_)) {
        let closed = |id: &&ActionId| {
            found.iter().any(|leaf| {
                matches!(&leaf.event,
                Event::ActionClosed(body) if body.action == **id && body.outcome == Outcome::Completed)
            })
        };
        assert_eq!(promised.receipts.iter().find(|id| !closed(id)), None, "{fault:?}: a receipt was lost");
    }
    block_on(async {
        log.recorder().fact(stopped()).await.unwrap();
        log.close().await.unwrap();
    });
    let report = verified(&disk);
    assert_eq!((report.open, report.unsigned), (0, 0), "{fault:?} {seed}");
    assert_eq!(report.checkpoint.size, found.len() as u64 + 1, "{fault:?} {seed}");
    steps
}

fn matches_intent(leaves: &[Leaf], id: ActionId) -> bool {
    leaves.iter().any(|leaf| matches!(&leaf.event, Event::ActionIntended(body) if body.action == id))
}

#[test]
fn every_step_fails_once() {
    let before = before();
    for at in 1..=trial(&before, Fault::None, 0) {
        trial(&before, Fault::Fails(at), 0);
    }
}

#[test]
fn every_step_fails_once_but_persists() {
    let before = before();
    for at in 1..=trial(&before, Fault::None, 0) {
        trial(&before, Fault::FailsButPersists(at), 0);
    }
}

#[test]
fn the_power_is_cut_at_every_step() {
    let before = before();
    for at in 1..=trial(&before, Fault::None, 0) {
        for seed in 0..2 {
            trial(&before, Fault::PowerCut(at), seed * 1_000 + at);
        }
    }
}

/// Actions with their receipts, and the archive of them in between, as it is made each second.
async fn act_and_archive(log: &Log, numbers: std::ops::Range<u128>) -> Vec<ActionId> {
    let mut acknowledged = Vec::new();
    for number in numbers {
        if let Ok(ticket) = log.recorder().intent(intent(number)).await {
            acknowledged.push(intent(number).action);
            log.recorder().receipt(ticket, receipt(&intent(number)));
        }
        if number % 20 == 0 {
            // It fails once the power is gone.
            drop(log.shared().archive_new());
        }
    }
    acknowledged
}

#[test]
fn segments_are_used_again_and_no_file_is_filled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(before(), Fault::None);
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(act_and_archive(&log, 20_000..20_200));
    let filled = disk.allocations();
    block_on(act_and_archive(&log, 30_000..30_400));
    assert_eq!(disk.allocations(), filled, "the sequencer filled a file");
    let segments = disk.files().keys().filter(|path| path.starts_with("segment")).count();
    assert!(segments <= crate::segment::SPARES_MAX + 2, "{segments}");
    block_on(log.close()).unwrap();
    assert_eq!(verified(&disk).open, 0);
}

/// Every segment that is written here is a spare of before, full of whole records with the numbers of then.
#[test]
fn a_log_that_is_killed_on_used_segments_recovers_what_was_acknowledged() {
    let disk = Faulty::new(before(), Fault::None);
    for from in [40_000, 50_000, 60_000] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&disk, &folder.path().join("index")).unwrap();
        let acknowledged = block_on(act_and_archive(&log, from..from + 230));
        log.kill();
        let log = open(&disk, &folder.path().join("index")).unwrap();
        let found = leaves(&log);
        assert!((0..).zip(&found).all(|(seq, leaf)| leaf.seq == seq));
        assert!(acknowledged.iter().all(|id| matches_intent(&found, *id)) && acknowledged.len() == 230);
        log.kill();
    }
    let folder = tempfile::tempdir().unwrap();
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(log.close()).unwrap();
    assert_eq!(verified(&disk).open, 0);
}

#[test]
fn the_power_is_cut_while_segments_are_used_again() {
    let before = before();
    let run = |fault, seed| {
        let folder = tempfile::tempdir().unwrap();
        let disk = Faulty::new(before.clone(), fault);
        let mut acknowledged = Vec::new();
        if let Ok(log) = open(&disk, &folder.path().join("index")) {
            acknowledged = block_on(act_and_archive(&log, 70_000..70_060));
            log.kill();
        }
        let rest = Faulty::new(disk.after_power_cut(seed), Fault::None);
        let log = open(&rest, &folder.path().join("again")).unwrap_or_else(|error| panic!("{seed}: {error}"));
        let found = leaves(&log);
        assert!(acknowledged.iter().all(|id| matches_intent(&found, *id)), "{fault:?} {seed}");
        block_on(log.close()).unwrap();
        assert_eq!(verified(&rest).open, 0, "{fault:?} {seed}");
        disk.steps()
    };
    let steps = run(Fault::None, 1);
    for at in (1..=steps).step_by(4) {
        run(Fault::PowerCut(at), at);
    }
}

#[test]
fn a_full_disk_refuses_actions_loses_nothing_and_resumes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Files::new(), Fault::None);
    let log = open(&disk, &folder.path().join("index")).unwrap();
    let recorder = log.recorder();
    block_on(async {
        let first = intent(1);
        let ticket = recorder.intent(first.clone()).await.unwrap();
        disk.set(Fault::Full);
        // What fits into the segment that is there is still taken; then there is no next one.
        let mut number = 1_000;
        let refused = loop {
            number += 1;
            match recorder.intent(intent(number)).await {
                Ok(ticket) => drop(ticket),
                Err(error) => break error,
            }
        };
        assert!(refused.to_string().contains("not durable"), "{refused}");
        recorder.receipt(ticket, receipt(&first));
        disk.set(Fault::None);
        until("the disk is tried again", || log.status().refusing.is_none().then_some(()));
        let ticket = recorder.intent(intent(2)).await.unwrap();
        recorder.receipt(ticket, receipt(&intent(2)));
        assert_eq!(log.status().refusing, None);
        log.close().await.unwrap();
    });
    assert_eq!(verified(&disk).open, 0);
}

#[test]
fn it_resumes_even_when_nothing_but_intents_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Files::new(), Fault::None);
    let log = open(&disk, &folder.path().join("index")).unwrap();
    let recorder = log.recorder();
    disk.set(Fault::Full);
    block_on(async {
        assert!(recorder.intent(intent(1)).await.is_err());
        disk.set(Fault::None);
        until("an intent may try the disk", || log.status().refusing.is_none().then_some(()));
        drop(recorder.intent(intent(2)).await.unwrap());
        log.close().await.unwrap();
    });
}

#[test]
fn an_intent_whose_future_is_dropped_gets_its_receipt_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Files::new(), Fault::None);
    let log = open(&disk, &folder.path().join("index")).unwrap();
    let recorder = log.recorder();
    block_on(async {
        drop(recorder.intent(intent(1)));
        drop(recorder.intent(intent(2)).await.unwrap());
        let mut reader = log.read(Query { kind: Some("action.closed"), ..Query::default() });
        for _ in 0..2 {
            let Event::ActionClosed(closed) = reader.follow().await.unwrap().event else { panic!() };
            assert_eq!(closed.reason, Some(writ_core::Reason::ClientGone));
        }
        log.close().await.unwrap();
    });
    assert_eq!((verified(&disk).actions, verified(&disk).open), (2, 0));
}

/// A log with a few bundles that was closed in good order.
fn sample(folder: &Path) -> Faulty {
    let disk = Faulty::new(Files::new(), Fault::None);
    let log = open(&disk, &folder.join("index")).unwrap();
    block_on(async {
        let recorder = log.recorder();
        recorder.fact(started()).await.unwrap();
        for number in 0..300 {
            let ticket = recorder.intent(intent(number)).await.unwrap();
            recorder.receipt(ticket, receipt(&intent(number)));
        }
        recorder.fact(stopped()).await.unwrap();
        log.close().await.unwrap();
    });
    disk
}

#[test]
fn what_verifies_can_be_read_and_is_what_was_recorded() {
    let disk = Faulty::new(before(), Fault::None);
    let folder = tempfile::tempdir().unwrap();
    let log = open(&disk, &folder.path().join("index")).unwrap();
    let signed = verified(&disk).checkpoint.size;
    block_on(log.recorder().fact(stopped())).unwrap();
    let mut read = Vec::new();
    let report = verify_each(&disk, &key(), None, &mut |leaf| read.push(leaf.clone())).unwrap();
    assert_eq!(read, leaves(&log), "in order, with what is not signed yet");
    assert_eq!(report.checkpoint.size + report.unsigned, read.len() as u64);
    assert!(read.len() as u64 > signed);
    log.kill();
}

#[test]
fn verify_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let files = sample(folder.path()).files();
    let broken = |path: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        change(files.get_mut(Path::new(path)).unwrap_or_else(|| panic!("no {path}")));
        verify_storage(&Faulty::new(files, Fault::None), &key(), None).unwrap_err().to_string()
    };
    let path = b"/7/xxx";
    let flip = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(path.len()).position(|window| window == path).unwrap();
        bytes[at + 3] = b'y';
    };
    // Leaf 0 is the start; intent 7 is leaf 1 + 2 * 7.
    assert!(broken("tile/entries/000", &flip).contains("leaf 15 "), "{}", broken("tile/entries/000", &flip));
    let spaced = broken("tile/entries/000", &|bytes| {
        let length = u16::from_be_bytes([bytes[0], bytes[1]]) + 1;
        bytes.splice(0..3, [length.to_be_bytes().as_slice(), b"{ "].concat());
    });
    assert!(spaced.contains("leaf 0: it is not in canonical form"), "{spaced}");
    assert!(broken("tile/1/000.p/2", &|bytes| bytes[40] ^= 1).contains("tile 1/0"));
    assert!(broken("checkpoint", &|bytes| bytes[ORIGIN.len() + 1] ^= 1).contains("checkpoint"));
    assert!(broken("tile/entries/001", &|bytes| bytes.truncate(9)).contains("leaf 256"));
    assert_eq!(verify_storage(&Faulty::new(files.clone(), Fault::None), &key(), None).unwrap().actions, 300);
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_that_root_cut_history_off() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sample(folder.path());
    let early = disk.files();
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(async {
        log.recorder().fact(started()).await.unwrap();
        log.close().await.unwrap();
    });
    let kept = log.checkpoint().unwrap().1;
    assert_eq!(verify_storage(&disk, &key(), Some(&kept)).unwrap().since, Some(603));
    let cut = verify_storage(&Faulty::new(early, Fault::None), &key(), Some(&kept)).unwrap_err();
    assert!(cut.to_string().contains("history was cut off"), "{cut}");
    let old = log.checkpoint().unwrap().1;
    // The same key signs a whole other history of more leaves.
    let other = Faulty::new(Files::new(), Fault::None);
    let forged = open(&other, &folder.path().join("other")).unwrap();
    block_on(async {
        for number in 5_000..5_400 {
            let ticket = forged.recorder().intent(intent(number)).await.unwrap();
            forged.recorder().receipt(ticket, receipt(&intent(number)));
        }
        forged.close().await.unwrap();
    });
    let rewritten = verify_storage(&other, &key(), Some(&old)).unwrap_err();
    assert!(rewritten.to_string().contains("history was rewritten"), "{rewritten}");
}

#[test]
fn an_unreadable_acknowledged_entry_is_refused_and_never_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Files::new(), Fault::None);
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(async {
        for number in 0..6 {
            let ticket = log.recorder().intent(intent(number)).await.unwrap();
            log.recorder().receipt(ticket, receipt(&intent(number)));
        }
        log.recorder().fact(stopped()).await.unwrap();
    });
    log.kill();
    let mut files = disk.files();
    let segment = files.get_mut(Path::new("segment/00000000000000000000")).unwrap();
    let at = segment.windows(4).position(|window| window == b"/2/x").unwrap();
    segment[at + 5] ^= 1;
    let damaged = Faulty::new(files, Fault::None);
    let refused = open(&damaged, &folder.path().join("second")).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("leaf 4 ") && refused.contains("writ verify"), "{refused}");
}

#[test]
fn a_lost_checkpoint_is_no_new_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = sample(folder.path()).files();
    files.remove(Path::new("checkpoint"));
    let refused = open(&Faulty::new(files, Fault::None), &folder.path().join("index")).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("checkpoint is gone"));
}

#[test]
fn a_broken_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sample(folder.path());
    let index = folder.path().join("index");
    let search = |log: &Log| {
        let mut reader = log.read(Query { service: Some("forge".parse().unwrap()), ..Query::default() });
        std::iter::from_fn(|| reader.next().unwrap()).count()
    };
    let log = open(&disk, &index).unwrap();
    assert_eq!(search(&log), 600);
    block_on(log.close()).unwrap();
    drop(log);
    for junk in [&b"no database"[..], &[0u8; 9_000], b""] {
        for ending in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{ending}", index.display())));
        }
        writ_host::durable::replace(&index, junk, 0o600).unwrap();
        let log = open(&disk, &index).unwrap();
        assert_eq!((search(&log), log.action(intent(9).action).unwrap().len()), (600, 2));
        block_on(log.close()).unwrap();
    }
}

#[test]
fn a_daemon_that_was_killed_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let disk = sample(folder.path());
    for _ in 0..2 {
        let log = open(&disk, &folder.path().join("index")).unwrap();
        block_on(log.recorder().fact(started())).unwrap();
        log.kill();
    }
    let log = open(&disk, &folder.path().join("index")).unwrap();
    block_on(log.close()).unwrap();
    assert_eq!(verified(&disk).killed, 1, "the second start finds the first without its stop");
}
