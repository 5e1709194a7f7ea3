//! `writd` as a program: arguments, exit codes, and the words of an error.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;
use writ_capture::Capture;
use writ_core::Layout;
use writ_core::config::Problems;

use crate::assemble::{self, Surroundings};
use crate::configuration::Configuration;
use crate::governing;
use crate::settings::Settings;
use crate::{hardening, holder};

/// Runtime IAM for AI agents: the daemon.
#[derive(Debug, Parser)]
#[command(version, name = "writd")]
struct Arguments {
    /// Keep everything below this folder instead of `/`.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Check the configuration and end: 0 good, 3 not.
    #[arg(long, conflicts_with = "purge")]
    check: bool,
    /// End every run and remove the kernel's part of this installation. Configuration, secrets and evidence stay.
    #[arg(long)]
    purge: bool,
    /// The holder of the listeners; started by the daemon itself.
    #[arg(long, hide = true, value_name = "SOCKET")]
    hold: Option<PathBuf>,
}

/// Why the daemon did not start, when it is the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It has problems.
    #[error("the configuration is not usable")]
    Configuration(Problems),
}

/// Runs the program and gives its exit code: 0 done, 1 failed, 3 configuration invalid, 64 usage.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            complain(&error.render().to_string());
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Refused::Configuration(problems)) = error.downcast_ref() {
                complain(&problems.to_string());
                complain("error: the configuration is not usable");
                return ExitCode::from(3);
            }
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(socket) = &arguments.hold {
        hardening::apply()?;
        return holder::hold(socket);
    }
    let layout = Layout::new(&arguments.root);
    let settings = settings(&layout)?;
    if arguments.check {
        Configuration::read(&layout).map_err(Refused::Configuration)?;
        return Ok(());
    }
    hardening::apply().context("this process cannot be protected")?;
    if arguments.purge {
        holder::quit(&layout.holder_socket());
        return Ok(Capture::purge(&assemble::capture_settings(&layout, &settings))?);
    }
    log(&settings)?;
    let surroundings = Surroundings {
        notify: std::env::var_os("NOTIFY_SOCKET"),
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("writd").build()?;
    runtime.block_on(assemble::serve(layout, settings, surroundings))
}

fn settings(layout: &Layout) -> Result<Settings> {
    let path = layout.settings();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let mut problems = Problems::default();
    let settings = Settings::read(&path.to_string_lossy(), &text, &mut problems);
    let settings = settings.filter(|settings| {
        governing::refuse_scripts(&settings.govern, &mut problems);
        problems.is_empty()
    });
    Ok(settings.ok_or(Refused::Configuration(problems))?)
}

fn log(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter).context("`log.filter` is no filter")?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if settings.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program's last words, when there is no log yet")]
fn complain(text: &str) {
    eprintln!("{}", text.trim_end());
}
