//! How many identities are issued a second: key, certificate or token, and signature, on as many threads as named; and
//! how much processor time each takes, which a loaded machine does not change.
//!
//! `cargo run --release -p writ-identity --example issuing -- 2`

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use writ_core::config::{self, Problems};
use writ_core::{Clock, Secret, SpiffeId, TrustDomain};
use writ_host::{SystemClock, SystemIds};
use writ_identity::{Authority, Issuer, KEYS, Keep, KeepError, Surroundings};

/// Keys in memory: nothing here is kept.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Keep for Memory {
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError> {
        let values = self.0.lock().map_err(|_| "poisoned")?;
        Ok(values.get(name).cloned().map(Secret::<[u8]>::new).transpose()?)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError> {
        self.0.lock().map_err(|_| "poisoned")?.insert(name.to_owned(), value.to_vec());
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let domain = TrustDomain::new("example.org")?;
    let mut problems = Problems::default();
    let settings =
        config::read("bench", "", KEYS, &mut problems, |table| writ_identity::settings(table, &domain));
    let settings = settings.ok_or_else(|| problems.to_string())?;
    let surroundings = Surroundings {
        keep: Arc::new(Memory::default()),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds::default()),
    };
    let issuer = Authority::open(domain, settings, surroundings).await?.issuer();
    let id = SpiffeId::new("spiffe://example.org/agent/coder/run/01J0000000000000000000000A")?;
    let limit = SystemClock.now().plus(Duration::from_hours(1));
    let audience = ["https://service.example.com".to_owned()];
    measure("X509-SVIDs", threads, &issuer, |issuer| issuer.x509(&id, limit).map(drop));
    measure("JWT-SVIDs", threads, &issuer, |issuer| issuer.jwt(&id, &audience, limit).map(drop));
    Ok(())
}

fn measure(
    what: &str,
    threads: usize,
    issuer: &Arc<Issuer>,
    issue: impl Fn(&Issuer) -> Result<(), writ_identity::Error> + Sync,
) {
    const TIME: Duration = Duration::from_secs(3);
    let begun = SystemClock.monotonic();
    let work = || {
        let (mut count, before) = (0_u32, processor_nanos());
        while SystemClock.monotonic().saturating_sub(begun) < TIME && issue(issuer).is_ok() {
            count += 1;
        }
        (count, processor_nanos() - before)
    };
    let done: Vec<(u32, f64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let total: u32 = done.iter().map(|(count, _)| count).sum();
    let nanos: f64 = done.iter().map(|(_, nanos)| nanos).sum();
    let rate = f64::from(total) / TIME.as_secs_f64();
    let each = nanos / f64::from(total.max(1)) / 1_000.0;
    report(&format!(
        "{what}: {rate:.0} a second on {threads} threads, {each:.0} microseconds of processor each"
    ));
}

/// What this thread has run so far, by the scheduler's account (proc(5), `schedstat`).
fn processor_nanos() -> f64 {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    account.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "an example that reports a figure")]
fn report(line: &str) {
    println!("{line}");
}
