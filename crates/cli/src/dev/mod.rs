//! `conclave dev`: a whole cluster of real processes on this machine, with one command.
//!
//! Always: the nodes end with this process; a temporary folder goes with it; the root token and the shares are printed and
//! written only where the person asked for it. Lays out ([`layout`]), starts ([`children`]), opens ([`ceremony`]), tells
//! ([`ready`]), shows ([`view`]). [`rehearse`] walks people through a ceremony on such a cluster.

mod ceremony;
mod children;
mod layout;
mod progress;
mod ready;
pub(crate) mod rehearse;
mod view;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use client::SecretString;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::args::Dev;
use crate::fault::Fault;
use crate::{input, output};
use ceremony::{Cluster, Goal, Reached, THRESHOLD};
use children::Children;
use layout::Layout;
use progress::Progress;
use view::View;

/// How often the live view is drawn and the processes are looked at.
const VIEW_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the cluster until it is told to stop, or cannot start.
pub(crate) async fn run(args: &Dev) -> Result<(), Fault> {
    // Before anything is started: a signal from now on is an orderly stop.
    let mut signals = Signals::listen()?;
    let progress = Progress::new();
    progress.step("making certificates and configuration");
    let (layout, _temporary) = lay_out(args)?;
    let mut children = Children::start(&layout)?;
    let outcome = tokio::select! {
        outcome = session(args, &layout, &mut children, &progress) => outcome,
        () = signals.next() => Ok(()),
    };
    progress.finish();
    if std::io::stderr().is_terminal() {
        eprintln!("\nstopping the nodes");
    }
    tokio::select! {
        () = children.stop() => {}
        // Once more means: at once.
        () = signals.next() => {}
    }
    let killed = children.kill().await;
    if !killed.is_empty() {
        eprintln!("killed, as they did not stop in time: {}", killed.join(", "));
    }
    outcome
}

/// A new cluster, or the kept one. The temporary folder is removed when dropped.
fn lay_out(args: &Dev) -> Result<(Layout, Option<TempDir>), Fault> {
    if let Some(folder) = &args.data_dir {
        let layout = match Layout::load(folder, args)? {
            Some(layout) => {
                layout.check_ports()?;
                layout
            }
            None => Layout::create(folder, args)?,
        };
        return Ok((layout, None));
    }
    // Made with mode 0700.
    let temporary = tempfile::Builder::new().prefix("conclave-dev-").tempdir();
    let temporary = temporary.map_err(|error| Fault::local(format!("make a temporary folder: {error}")).cure("use --data-dir"))?;
    Ok((Layout::create(temporary.path(), args)?, Some(temporary)))
}

/// From started processes to the end of the session. Ends by itself only with a fault.
async fn session(args: &Dev, layout: &Layout, children: &mut Children, progress: &Progress) -> Result<(), Fault> {
    let cluster = Cluster::new(layout)?;
    let goal = match (args.uninitialized, args.sealed) {
        (true, _) => Goal::Answering,
        (false, true) => Goal::Initialized,
        (false, false) => Goal::Serving,
    };
    let brought_up = tokio::select! {
        brought_up = cluster.bring_up(goal, progress) => brought_up,
        death = children.first_death() => Err(Fault::local(death.to_string())),
    };
    progress.finish();
    let reached = brought_up.inspect_err(|_| {
        if children.states().iter().all(Option::is_none) {
            eprintln!("The ends of the nodes' traces:\n{}", children.tails());
        }
    })?;
    if let Some(file) = &args.ready_file {
        ready::write(file, layout, &children.pids(), &reached.keys)?;
    }
    output::emit(&summary(layout, &reached, goal))?;
    if reached.needs_shares {
        tokio::select! {
            // Ctrl-C at the prompt is the same as elsewhere: an orderly stop.
            asked = ask_for_shares(&cluster, reached.keys.threshold) => match asked {
                Err(fault) if fault.is_interrupted() => return Ok(()),
                asked => asked?,
            },
            death = children.first_death() => return Err(Fault::local(death.to_string())),
        }
    }
    watch(args, layout, &cluster, children).await
}

/// Draws until every process has ended, which is a fault. One that ends alone is told, and the others go on.
async fn watch(args: &Dev, layout: &Layout, cluster: &Cluster<'_>, children: &mut Children) -> Result<(), Fault> {
    let view = if args.quiet { None } else { View::new(layout) };
    if view.is_none() {
        output::emit("running; Ctrl-C stops all\n")?;
    }
    loop {
        for death in children.deaths() {
            let place = layout.nodes.iter().find(|place| place.id == death.id).expect("each child is a node of the layout");
            let again = format!(
                "{death}\n  the others go on; start it again with: conclave server -config {}",
                layout.config_file(place).display()
            );
            match &view {
                Some(view) => view.say(&again),
                None => eprintln!("{again}"),
            }
        }
        let states = children.states();
        if states.iter().all(Option::is_some) {
            return Err(Fault::local("every node has ended").cure("the lines above say why"));
        }
        if let Some(view) = &view {
            view.draw(layout, cluster, &states).await;
        }
        sleep(VIEW_INTERVAL).await;
    }
}

/// A kept cluster is sealed: asks for shares at a terminal, and waits for somebody to give them elsewhere otherwise.
async fn ask_for_shares(cluster: &Cluster<'_>, threshold: u32) -> Result<(), Fault> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    let saved = Terminal::save();
    let mut given = 0;
    loop {
        let prompt = format!("Share {} of {threshold} (not shown; Ctrl-C stops all): ", given + 1);
        let share = tokio::select! {
            share = typed(prompt) => share?,
            opened = opened_elsewhere(cluster) => {
                saved.restore();
                return opened;
            }
        };
        match cluster.give_share(given, &share).await {
            Ok(status) if status.sealed => given = status.progress as usize,
            Ok(_) => return cluster.await_open().await,
            // A wrong share is named by the server; the ones before it still count.
            Err(fault) => {
                fault.report();
            }
        }
    }
}

async fn opened_elsewhere(cluster: &Cluster<'_>) -> Result<(), Fault> {
    loop {
        sleep(VIEW_INTERVAL).await;
        if cluster.client.sys().seal_status().await.is_ok_and(|status| !status.sealed) {
            eprintln!("\nopened by shares that were given elsewhere");
            return cluster.await_open().await;
        }
    }
}

/// On a thread of its own, which nobody waits for: a read from the terminal cannot be given up.
async fn typed(prompt: String) -> Result<SecretString, Fault> {
    let (given, wait) = tokio::sync::oneshot::channel();
    let ask = move || drop(given.send(input::typed(&prompt)));
    std::thread::Builder::new().name("prompt".to_owned()).spawn(ask).map_err(|error| Fault::local(format!("start a thread: {error}")))?;
    wait.await.unwrap_or_else(|_| Err(Fault::local("the prompt ended without an answer")))
}

/// The terminal's settings, to be put back when a prompt is left open.
struct Terminal(Option<rustix::termios::Termios>);

impl Terminal {
    fn save() -> Terminal {
        Terminal(rustix::termios::tcgetattr(std::io::stdin()).ok())
    }

    fn restore(&self) {
        if let Some(settings) = &self.0 {
            // A terminal that went away needs no settings.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, settings);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Ctrl-C, SIGTERM and the terminal's end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, Fault> {
        let listen = |kind| signal(kind).map_err(|error| Fault::local(format!("listen for signals: {error}")));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// What a person needs to know and to try.
fn summary(layout: &Layout, reached: &Reached, goal: Goal) -> String {
    let mut text = String::new();
    let mut say = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a String cannot fail");
    let first = layout.api_address(&layout.nodes[0]);
    say(format_args!("Nodes"));
    for place in &layout.nodes {
        say(format_args!("  {:<4} {:<28} peers {}", place.id, layout.api_address(place), layout.cluster_address(place)));
    }
    let program = program();
    let mut environment = format!("export VAULT_ADDR={first}");
    if layout.tls {
        write!(environment, " VAULT_CACERT={}", quoted(&layout.ca_file())).expect("writing to a String cannot fail");
    }
    // EXPOSE: the person at this terminal made them; `dev` exists to show them. Nobody else's cluster starts like this.
    if let Some(token) = &reached.keys.root_token {
        say(format_args!("\nRoot token\n  {}", token.expose()));
        say(format_args!("\nShares: any {THRESHOLD} of the {} open the cluster after a restart", reached.keys.shares.len()));
        for (at, share) in reached.keys.shares.iter().enumerate() {
            say(format_args!("  {}  {}", at + 1, share.expose()));
        }
        write!(environment, " VAULT_TOKEN={}", token.expose()).expect("writing to a String cannot fail");
    }
    let state = match (goal, reached.needs_shares) {
        (_, true) => "\nThis cluster was kept, and is sealed. Give shares at any node",
        (Goal::Answering, _) => "\nThe cluster has no keys yet. Make them, then give shares at any node",
        (Goal::Initialized, _) => "\nThe cluster is sealed. Give shares at any node",
        (Goal::Serving, _) => "\nTry (bao and vault work as well)",
    };
    say(format_args!("{state}\n  {environment}"));
    if goal == Goal::Answering && !reached.needs_shares {
        say(format_args!("  {program} operator init -key-shares=5 -key-threshold=3"));
    }
    if goal == Goal::Serving && !reached.needs_shares {
        say(format_args!("  {program} kv put secret/hello x=1\n  {program} kv get secret/hello\n  {program} operator members"));
    } else {
        say(format_args!("  {program} operator unseal        # {} times", reached.keys.threshold));
    }
    say(format_args!(""));
    text
}

/// How this program is called from the shell: by name when the shell finds it, else by its path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "conclave".to_owned() };
    let found = std::env::var_os("PATH")
        .and_then(|folders| std::env::split_paths(&folders).map(|folder| folder.join("conclave")).find(|file| file.is_file()));
    if found.and_then(|file| file.canonicalize().ok()).is_some_and(|file| Some(file) == own.canonicalize().ok()) {
        return "conclave".to_owned();
    }
    let here = std::env::current_dir().ok();
    let relative = here.as_ref().and_then(|here| own.strip_prefix(here).ok());
    quoted(relative.unwrap_or(&own))
}

/// For a POSIX shell.
fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

/// The same of any argument.
fn quoted_text(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+=,".contains(&byte));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-b_1.x")), "/tmp/a-b_1.x");
        assert_eq!(quoted(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
    }
}
