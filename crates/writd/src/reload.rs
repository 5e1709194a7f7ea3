//! Putting a configuration in force: whole, or not at all.

use std::sync::Arc;

use writ_control::Fault;
use writ_control::api::Reloaded;
use writ_core::config::Problems;
use writ_core::event::{ConfigLoaded, ConfigRefused};

use crate::configuration::Configuration;
use crate::world::World;
use crate::{destinations, doors, governing, runs};

/// Reads everything below `/etc/writ` again. `uid` is who asked.
pub(crate) async fn reload(world: &Arc<World>, uid: u32) -> Result<Reloaded, Fault> {
    let _one_at_a_time = world.reloading.lock().await;
    let layout = world.layout.clone();
    let read = tokio::task::spawn_blocking(move || Configuration::read(&layout)).await;
    match read.map_err(|error| local(&error))? {
        Ok(configuration) => {
            let loaded = loaded(&configuration, Some(uid));
            world.record.fact(loaded.into()).await.map_err(|error| local(&error))?;
            let reloaded = put_in_force(world, configuration)?;
            let configuration = world.configuration.load_full();
            doors::follow(world, &configuration).await.map_err(|error| local(&format!("{error:#}")))?;
            governing::follow(world).await.map_err(|error| local(&format!("{error:#}")))?;
            Ok(reloaded)
        }
        Err(problems) => {
            refused(world, &problems, uid);
            Err(Fault::refused_configuration(&problems))
        }
    }
}

fn refused(world: &World, problems: &Problems, uid: u32) {
    let problems = u64::try_from(problems.len()).unwrap_or(u64::MAX);
    world.record.note(ConfigRefused { problems, uid: Some(uid) }.into());
}

/// The record of a configuration that is about to be in force.
pub(crate) fn loaded(configuration: &Configuration, uid: Option<u32>) -> ConfigLoaded {
    ConfigLoaded {
        config_digest: configuration.digest.clone(),
        policy_digest: configuration.policies.digest().to_owned(),
        uid,
    }
}

/// Policy first, then the catalog: an operation that only the new policy knows cannot be named yet, and one that it no
/// longer knows is refused. What each session's authority may speak for comes last.
fn put_in_force(world: &Arc<World>, configuration: Configuration) -> Result<Reloaded, Fault> {
    let configuration = Arc::new(configuration);
    world.engine.replace(Arc::clone(&configuration.policies), configuration.observed());
    world.catalog.replace(configuration.services.clone());
    let rules = destinations::all(&world.catalog, &world.names);
    world.capture.set_destinations(&rules).map_err(|error| local(&error))?;
    for live in world.registry.list() {
        let names = runs::names(world, &live.session);
        let changed = world.authorities.change(live.session.facts().id, &names);
        changed.map_err(|error| local(&error))?;
    }
    world.configuration.store(Arc::clone(&configuration));
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let dangers = configuration.dangers();
    for danger in &dangers {
        tracing::warn!(target: "writ::writd", danger, "a setting weakens safety");
    }
    tracing::info!(target: "writ::writd", digest = configuration.digest, "configuration in force");
    Ok(Reloaded {
        agents: count(configuration.agents.len()),
        config_digest: configuration.digest.clone(),
        dangers,
        policies: count(configuration.policies.len()),
        policy_digest: configuration.policies.digest().to_owned(),
        services: count(configuration.services.len()),
    })
}

fn local(error: &dyn std::fmt::Display) -> Fault {
    Fault::local(writ_control::Class::Failed, "config.failed", error.to_string())
        .hint("see the daemon's log; what was in force before may be in force in part: reload again")
}
