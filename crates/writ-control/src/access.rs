//! Who may call what: one rule per operation (in [`Operation`]'s table), and the one function that applies it.

use crate::api::Operation;
use crate::fault::{Class, Fault};
use crate::peer::Caller;

/// Who may call an operation. A governed process may call none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Any user of the host; the answer is the same for all.
    Everyone,
    /// Any user, for what is their own; administrators for everything.
    Own,
    /// Root and the members of the administrators' group.
    Administrators,
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

/// Applies the operation's rule. `governed` says whether the caller belongs to a run: then the answer is no,
/// whoever it is, so that an agent cannot open, read or end anything.
pub fn clear(
    access: &Access,
    operation: Operation,
    caller: &Caller,
    governed: bool,
) -> Result<Clearance, Fault> {
    if governed {
        return Err(denied("a governed process may not call the daemon").hint("ask from outside the run"));
    }
    let administrator = access.is_administrator(caller);
    let scope = match operation.rule() {
        _ if administrator => Scope::All,
        Rule::Everyone | Rule::Own => Scope::Uid(caller.uid()),
        Rule::Administrators => {
            return Err(denied(format!("`{operation}` is for root and the administrators' group"))
                .hint("ask an administrator, or run the command with sudo"));
        }
    };
    Ok(Clearance { caller: caller.clone(), operation, scope })
}

fn denied(message: impl Into<String>) -> Fault {
    Fault::caller(Class::Denied, "control.denied", message)
}
