//! User, groups and login, as the kernel has them.
//!
//! Of a launched process this is who started it. A process whose ids differ (setuid in progress) has no uid to name.

use writ_core::Attestor;
use writ_core::selector::Key;

use super::{Attest, Facts, Subject, Unknown};
use crate::account::{Account, AccountError, group_name};

/// The attestor.
#[derive(Debug)]
pub(super) struct Unix;

impl Attest for Unix {
    fn attestor(&self) -> Attestor {
        Attestor::Unix
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let unknown = |what: &str| Unknown { attestor: Attestor::Unix, what: what.to_owned() };
        let failed = |_: AccountError| unknown("the user database does not answer");
        let peer = subject.peer;
        for (key, value) in
            [(Key::UnixLoginUid, peer.login_uid()), (Key::UnixAuditSession, peer.audit_session())]
        {
            if let Some(value) = value {
                facts.add(key, &value.to_string());
            }
        }
        let status = peer.status().map_err(|_| unknown("its status cannot be read"))?;
        let (Some(uid), Some(gid)) = (one(&status.uids), one(&status.gids)) else {
            return Err(unknown("its user or group ids differ from each other"));
        };
        facts.add(Key::UnixUid, &uid.to_string());
        facts.add(Key::UnixGid, &gid.to_string());
        for gid in &status.groups {
            facts.add(Key::UnixSupplementaryGid, &gid.to_string());
        }
        if facts.wants(Key::UnixUser)
            && let Some(account) = Account::of_uid(uid).map_err(failed)?
        {
            facts.add(Key::UnixUser, &account.name);
        }
        if facts.wants(Key::UnixGroup)
            && let Some(name) = group_name(gid).map_err(failed)?
        {
            facts.add(Key::UnixGroup, &name);
        }
        if facts.wants(Key::UnixSupplementaryGroup) {
            for gid in &status.groups {
                if let Some(name) = group_name(*gid).map_err(failed)? {
                    facts.add(Key::UnixSupplementaryGroup, &name);
                }
            }
        }
        Ok(())
    }
}

fn one(ids: &[u32]) -> Option<u32> {
    let first = ids.first()?;
    (ids.len() == 4 && ids.iter().all(|id| id == first)).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn the_attestor_conforms() {
        conformance::check(&Unix);
    }

    #[test]
    fn ids_that_differ_name_nobody() {
        assert_eq!((one(&[7, 7, 7, 7]), one(&[7, 0, 7, 7]), one(&[])), (Some(7), None, None));
    }
}
