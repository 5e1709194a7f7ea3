//! A document of an issuer that is fetched now and then: its description, its keys.
//!
//! One fetch at a time, whoever waits gets its result; between two fetches lies a pause, however many ask. A document
//! that cannot be fetched anew is used for a while longer, and then no more.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use writ_core::Clock;
use writ_gate::limits;

/// A cached document.
pub(crate) struct Cache<T> {
    state: Mutex<State<T>>,
    flight: tokio::sync::Mutex<()>,
}

struct State<T> {
    value: Option<(Arc<T>, Duration)>,
    attempted: Option<Duration>,
}

/// What asking came to.
pub(crate) enum Cached<T, E> {
    /// The document.
    Here(Arc<T>),
    /// It is not to be had, for this reason.
    Failed(E),
    /// It was asked for a moment ago.
    Paused,
}

impl<T> Cache<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State { value: None, attempted: None }),
            flight: tokio::sync::Mutex::new(()),
        }
    }

    /// The document: kept if fresh, fetched if not, kept all the same if fetching fails.
    pub(crate) async fn get<E>(
        &self,
        clock: &dyn Clock,
        fetch: impl Future<Output = Result<T, E>>,
    ) -> Cached<T, E> {
        if let Some(value) = self.within(clock, limits::ISSUER_FRESH) {
            return Cached::Here(value);
        }
        let _flight = self.flight.lock().await;
        if let Some(value) = self.within(clock, limits::ISSUER_FRESH) {
            return Cached::Here(value);
        }
        let failed = match self.fetch(clock, fetch).await {
            Cached::Here(value) => return Cached::Here(value),
            failed @ (Cached::Failed(_) | Cached::Paused) => failed,
        };
        self.within(clock, limits::ISSUER_USABLE).map_or(failed, Cached::Here)
    }

    /// A document other than `seen`, which was found wanting: one that somebody fetched meanwhile, or a new one if
    /// the pause has passed.
    pub(crate) async fn newer<E>(
        &self,
        clock: &dyn Clock,
        seen: &Arc<T>,
        fetch: impl Future<Output = Result<T, E>>,
    ) -> Cached<T, E> {
        let _flight = self.flight.lock().await;
        let other = self.within(clock, limits::ISSUER_FRESH).filter(|value| !Arc::ptr_eq(value, seen));
        match other {
            Some(value) => Cached::Here(value),
            None => self.fetch(clock, fetch).await,
        }
    }

    fn within(&self, clock: &dyn Clock, age: Duration) -> Option<Arc<T>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, fetched) = state.value.as_ref()?;
        (clock.monotonic().saturating_sub(*fetched) < age).then(|| Arc::clone(value))
    }

    async fn fetch<E>(&self, clock: &dyn Clock, fetch: impl Future<Output = Result<T, E>>) -> Cached<T, E> {
        let now = clock.monotonic();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.attempted.is_some_and(|last| now.saturating_sub(last) < limits::ISSUER_FETCH_PAUSE) {
                return Cached::Paused;
            }
            state.attempted = Some(now);
        }
        match fetch.await {
            Ok(value) => {
                let value = Arc::new(value);
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.value = Some((Arc::clone(&value), now));
                Cached::Here(value)
            }
            Err(error) => Cached::Failed(error),
        }
    }
}
