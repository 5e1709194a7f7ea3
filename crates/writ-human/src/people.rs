//! Everything of this crate, put together once per daemon.

use std::collections::HashMap;
use std::sync::Arc;

use writ_core::HumanId;

use crate::caller::Callers;
use crate::cuts::Cuts;
use crate::error::Error;
use crate::issuer::{Issuer, IssuerName};
use crate::login::Logins;
use crate::provider::{Ports, Provider};
use crate::roster::{Roster, SignedOut};
use crate::signal::Signals;
use crate::signed_in::{EndCause, Ended, LoginOwner, SignedIn};

/// The humans that this node knows, and the ways to prove them.
pub struct People {
    roster: Arc<Roster>,
    logins: Logins,
    callers: Arc<Callers>,
    signals: Signals,
    cuts: Arc<Cuts>,
    ports: Ports,
}

impl People {
    /// Opens with these issuers and takes back who was signed in. `boot` names this start of the machine
    /// (`/proc/sys/kernel/random/boot_id`): sign-ins of login sessions of another start are void. Asks no issuer.
    pub async fn open(issuers: Vec<Issuer>, ports: Ports, boot: String) -> Result<Self, Error> {
        let mut providers: HashMap<IssuerName, Arc<Provider>> = HashMap::new();
        for issuer in issuers {
            let name = Arc::clone(&issuer.name);
            providers.insert(name, Arc::new(Provider::new(issuer, ports.clone())?));
        }
        let cuts = Arc::new(Cuts::open(ports.clone()).await?);
        let roster = Arc::new(Roster::new(ports.clone(), boot));
        roster.restore(&providers).await?;
        let callers = Arc::new(Callers::new(&providers, ports.clone(), Arc::clone(&cuts)));
        let signals = Signals::new(&providers, Arc::clone(&roster), Arc::clone(&callers), Arc::clone(&cuts));
        let logins = Logins::new(providers, ports.clone(), Arc::clone(&roster));
        Ok(Self { roster, logins, callers, signals, cuts, ports })
    }

    /// Ways to sign in.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Tokens that come with requests.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// What transmitters tell.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Who is signed in as this uid in this login session. From memory, at once.
    pub fn who(&self, uid: u32, audit_session: Option<u32>) -> Option<Arc<SignedIn>> {
        self.roster.who((uid, audit_session))
    }

    /// Everybody who is signed in.
    pub fn all(&self) -> Vec<Arc<SignedIn>> {
        self.roster.all()
    }

    /// Signs out, here at once and then at the issuer. `None` if nobody was signed in there.
    pub async fn sign_out(&self, owner: &LoginOwner) -> Result<Option<SignedOut>, Error> {
        self.roster.sign_out(owner.seat()).await
    }

    /// An operator revokes a human: every sign-in ends, tokens of before are worth nothing, and [`crate::Tell`] hears
    /// of the human as a whole. Cut at once; durable when it returns.
    pub async fn revoke(&self, human: &HumanId) -> Result<(), Error> {
        end(human, EndCause::Revoked, (&self.roster, &self.cuts, &self.ports)).await
    }

    /// Refreshes, ends what is over, and fetches signals, for as long as it is polled. The daemon owns the task.
    pub async fn tend(&self) {
        tokio::join!(self.roster.keep_fresh(), self.signals.listen());
    }

    /// Does once what [`People::tend`] does whenever something is due.
    pub async fn tend_once(&self) {
        self.roster.tend().await;
    }
}

/// Ends all that stands on a human: memory, then who is told, then the disk.
pub(crate) async fn end(
    human: &HumanId,
    cause: EndCause,
    (roster, cuts, ports): (&Roster, &Cuts, &Ports),
) -> Result<(), Error> {
    cuts.cut(human);
    let gone = roster.expel(human, cause);
    ports.tell.ended(&Ended { human: human.clone(), owner: None, cause });
    // Crash here: it is not durable, and nobody was told that it is; a transmitter sends its signal again.
    let saved = cuts.save().await;
    saved.and(roster.clear_away(gone).await)
}
