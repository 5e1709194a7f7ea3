//! Every operation there is, and who may call it: the one table.

use std::fmt;

use crate::access::Rule;

macro_rules! operations {
    ($($(#[doc = $doc:literal])* $name:literal $variant:ident $rule:ident;)*) => {
        /// What can be asked of the daemon.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[doc = $doc])* $variant,)* }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name, as it stands in the path.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Who may call it.
            pub const fn rule(self) -> Rule {
                match self { $(Self::$variant => Rule::$rule),* }
            }

            /// The operation with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

operations! {
    /// Is it ready, and in what state?
    "status" Status Everyone;
    /// Make the calling process a run that has no session yet.
    "run.open" RunOpen Starter;
    /// The process that `run.open` answered on this connection is confined: open its session.
    "run.ready" RunReady Opener;
    /// The live sessions.
    "run.list" RunList Own;
    /// End sessions, by session, run, agent or human, and cut what they have open.
    "revoke" Revoke Own;
    /// Begin to sign in at an issuer.
    "human.login" HumanLogin Own;
    /// Go on with a sign-in.
    "human.finish" HumanFinish Own;
    /// Who am I?
    "human.whoami" HumanWhoami Own;
    /// Sign out, and end the sessions that hung on it.
    "human.logout" HumanLogout Own;
    /// The agents in force, and the digests that are trusted for them.
    "agent.list" AgentList Administrators;
    /// Trust a digest that is held.
    "agent.approve" AgentApprove Administrators;
    /// The actions that wait for somebody's approval.
    "approval.list" ApprovalList Own;
    /// Say yes or no to one.
    "approval.answer" ApprovalAnswer Own;
    /// Read the evidence.
    "log.query" LogQuery Own;
    /// The story of one action.
    "action.why" ActionWhy Own;
    /// Store a secret, or replace it.
    "secret.set" SecretSet Administrators;
    /// The names of the stored secrets.
    "secret.list" SecretList Administrators;
    /// Remove a secret.
    "secret.remove" SecretRemove Administrators;
    /// The services in force.
    "service.list" ServiceList Administrators;
    /// One service in full.
    "service.show" ServiceShow Administrators;
    /// The policies in force.
    "policy.show" PolicyShow Administrators;
    /// Read the configuration again.
    "reload" Reload Administrators;
    /// The latest signed checkpoint of the evidence.
    "evidence.checkpoint" EvidenceCheckpoint Everyone;
    /// What the daemon finds when it examines itself and the host.
    "doctor" Doctor Everyone;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for operation in Operation::ALL {
            assert_eq!(Operation::from_name(operation.name()), Some(*operation));
        }
        assert_eq!(Operation::from_name("secret.get"), None, "no operation gives a value back");
    }
}
