//! A log of actions that were decided by the fixture's policies.

use writ_core::event::{ActionClosed, ActionIntended, ActionRefused, Key, Keys, LeaseFate, Outcome, Request};
use writ_core::{ActionId, Arguments, Assurance, ConnId, Effect, Reason};
use writ_gate::Record;

use crate::fixture::{Fixture, actor, opened, process, request, started, write};

/// The same as in force, without what `people-read` permits to all.
const NARROW: &str = r#"@id("coder-reads")
permit (
  principal == Writ::Agent::"coder",
  action in Writ::Action::"read",
  resource == Writ::Service::"forge"
);

@id("others-read")
permit (
  principal in Writ::Group::"unix:others",
  action in Writ::Action::"read",
  resource
);
"#;

/// Permits deletion beside what is in force.
const WIDE: &str = r#"@id("all")
permit (principal, action, resource);
"#;

/// Depends on arguments and on the session.
const CONDITIONAL: &str = r#"@id("coder-reads")
permit (
  principal == Writ::Agent::"coder",
  action in Writ::Action::"read",
  resource == Writ::Service::"forge"
)
when { context.args has page && context.args.page == 1 };

@id("to-mend")
permit (principal is Writ::Human, action, resource)
when { context.session.purpose like "mend *" };

@id("not-bob")
forbid (principal == Writ::Human::"unix:bob", action, resource);
"#;

/// Forbids deletion, whatever else is permitted.
const STRICT: &str = r#"@id("nothing-is-deleted")
forbid (principal, action in Writ::Action::"delete", resource);
"#;

impl Fixture {
    /// Folders of policies to try.
    pub(crate) fn candidates(&self) {
        let folders = [("narrow", NARROW), ("wide", WIDE), ("conditional", CONDITIONAL), ("strict", STRICT)];
        for (name, text) in folders {
            let folder = self.root().join(name);
            writ_host::durable::folder(&folder, 0o755).unwrap();
            write(&folder.join("forge.cedar"), text);
        }
    }

    /// Two permitted actions, one refused by policy, one observed, one refused before policy, and one of an operation that
    /// is gone; folders of policies to try, and two agents.
    pub(crate) fn actions(&self) {
        self.candidates();
        let agents = writ_core::Layout::new(self.root()).agents();
        writ_host::durable::folder(&agents, 0o755).unwrap();
        for name in ["coder.toml", "writer.toml"] {
            write(&agents.join(name), "owner = \"platform\"\n");
        }
        self.log(async |record| {
            record.fact(started().into()).await.unwrap();
            record.fact(opened(1, "unix:ann").into()).await.unwrap();
            let yes = |policy| Key { permitted: true, policies: texts(&[policy]) };
            let list = asked("forge/issues.list", &[("owner", "acme")]);
            let both = Keys {
                agent: yes("coder-reads"),
                human: yes("people-read"),
                policy_digest: "00ff".repeat(16),
            };
            done(record, 300, (list.clone(), both.clone()), None).await;
            done(record, 301, (list, both), None).await;
            let no = |policies: &[&str]| Key { permitted: false, policies: texts(policies) };
            let keys = Keys { agent: no(&[]), human: no(&[]), policy_digest: "00ff".repeat(16) };
            let delete =
                Request { effect: Effect::Delete, ..asked("forge/repo.delete", &[("owner", "acme")]) };
            record.note(refused(302, Reason::AgentNotPermitted, Some((delete.clone(), keys.clone()))).into());
            done(record, 305, (delete, keys.clone()), Some(Reason::AgentNotPermitted)).await;
            let gone = asked("forge/wiki.edit", &[]);
            record.note(refused(303, Reason::AgentNotPermitted, Some((gone, keys))).into());
            record.note(refused(304, Reason::AmbiguousRequest, None).into());
        });
        self.damage();
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn asked(operation: &str, arguments: &[(&str, &str)]) -> Request {
    let arguments: Arguments =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    Request { arguments, ..request(operation, "GET", "/repos/acme") }
}

async fn done(record: &dyn Record, number: u128, (request, keys): (Request, Keys), observed: Option<Reason>) {
    let (action, actor) = (ActionId::from_bits(number), actor(1, "unix:ann"));
    let intent = ActionIntended {
        action,
        actor: actor.clone(),
        assurance: Assurance::Kernel,
        conn: ConnId::from_bits(400),
        keys,
        observed,
        process: process(),
        request,
        tool_path: Vec::new(),
        terms: writ_core::event::Terms::default(),
    };
    let ticket = record.intent(intent.clone()).await.unwrap();
    let closed = ActionClosed {
        action,
        actor,
        bytes_down: 0,
        bytes_up: 0,
        duration_us: 1,
        lease: None,
        lease_fate: LeaseFate::NotMinted,
        operation: intent.request.operation,
        outcome: Outcome::Completed,
        reason: None,
        scrubbed: 0,
        service: intent.request.service,
        status: Some(200),
    };
    record.receipt(ticket, closed.into());
}

fn refused(number: u128, reason: Reason, decided: Option<(Request, Keys)>) -> ActionRefused {
    let (request, keys) = decided.unzip();
    ActionRefused {
        action: ActionId::from_bits(number),
        actor: actor(1, "unix:ann"),
        assurance: Assurance::Kernel,
        conn: ConnId::from_bits(400),
        keys,
        process: process(),
        reason,
        request,
        labels: std::collections::BTreeSet::new(),
        tool_path: Vec::new(),
    }
}
