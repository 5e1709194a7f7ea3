//! Who may call what: one rule per operation (in [`Operation`]'s table), and the one function that applies it.

use crate::api::Operation;
use crate::fault::{Class, Fault};
use crate::peer::Caller;

/// Who may call an operation. A governed process may start a sub-agent, and take the last step of its own beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Any user of the host; the answer is the same for all.
    Everyone,
    /// Any user, for what is their own; administrators for everything.
    Own,
    /// As `Own`; and a governed process may ask it too: it thereby starts a sub-agent, if its own agent may.
    Starter,
    /// Root and the members of the administrators' group.
    Administrators,
    /// Whoever had `run.open` answered on this same connection. It is governed by then.
    Opener,
}

/// Who the administrators are, besides root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Members of this group may do what root may; none when absent.
    pub group: Option<u32>,
}

/// What a cleared caller may see and touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Sessions of this uid, and what belongs to them. To others the answer is the same as if they did not exist.
    Uid(u32),
}

/// A caller that may do what it asks, within a scope. Made only by [`clear`].
#[derive(Debug)]
pub struct Clearance {
    caller: Caller,
    operation: Operation,
    scope: Scope,
    governed: bool,
}

impl Clearance {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What was cleared.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether the caller is in a run.
    pub fn is_governed(&self) -> bool {
        self.governed
    }

    /// What may be seen and touched.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether what belongs to this uid is within the scope.
    pub fn covers(&self, uid: u32) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Uid(own) => own == uid,
        }
    }
}

impl Access {
    /// Whether the caller may do what root may.
    pub fn is_administrator(&self, caller: &Caller) -> bool {
        caller.uid() == 0 || self.group.is_some_and(|gid| caller.is_in_group(gid))
    }
}

/// What the caller is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An ordinary process of the host.
    Free,
    /// `run.open` was answered on this connection, and its session is not open yet.
    Opening,
    /// It belongs to a run.
    Governed,
}

/// Applies the operation's rule. A governed caller is told no, whoever it is, so that an agent cannot read or end
/// anything, and starts only what its registration names.
pub fn clear(
    access: &Access,
    operation: Operation,
    caller: &Caller,
    standing: Standing,
) -> Result<Clearance, Fault> {
    let opener = operation.rule() == Rule::Opener;
    match standing {
        Standing::Free if opener => {
            return Err(denied("no run was opened on this connection").hint("start programs with `writ run`"));
        }
        Standing::Opening if !opener => {
            return Err(denied("the run on this connection is not ready"));
        }
        // Scope and rights are the run's: who started it may be an administrator, the run is not.
        Standing::Governed if operation.rule() == Rule::Starter => {
            let scope = Scope::Uid(caller.uid());
            return Ok(Clearance { caller: caller.clone(), operation, scope, governed: true });
        }
        Standing::Governed => {
            let fault = denied("a governed process may not call the daemon");
            return Err(fault.hint("ask from outside the run"));
        }
        Standing::Free | Standing::Opening => {}
    }
    let administrator = access.is_administrator(caller);
    let scope = match operation.rule() {
        _ if administrator => Scope::All,
        Rule::Everyone | Rule::Own | Rule::Starter | Rule::Opener => Scope::Uid(caller.uid()),
        Rule::Administrators => {
            return Err(denied(format!("`{operation}` is for root and the administrators' group"))
                .hint("ask an administrator, or run the command with sudo"));
        }
    };
    Ok(Clearance { caller: caller.clone(), operation, scope, governed: false })
}

fn denied(message: impl Into<String>) -> Fault {
    Fault::caller(Class::Denied, "control.denied", message)
}
