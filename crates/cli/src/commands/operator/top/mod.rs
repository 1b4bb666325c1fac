//! `conclave operator top`: the cluster, live in a terminal; or once, for a file or a program.

pub(crate) mod exposition;
pub(crate) mod look;
mod screen;
mod view;

use std::time::Duration;

use client::Client;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Global, Top};
use crate::connect;
use crate::fault::Fault;
use crate::output::{Printer, terminal_columns};

use look::{ASK_TIMEOUT, Look, Members};
use screen::Screen;

/// Exit code when no node answered.
const NO_ANSWER: u8 = 2;

/// Shows the cluster until it is told to end; or, with `-once`, for programs, and where there is no terminal, once.
pub(crate) async fn run(global: &Global, printer: &Printer, args: &Top) -> Result<(), Fault> {
    let interval = client::parse_duration(&args.interval).map_err(|error| Fault::local(format!("-interval: {error}")))?;
    if !(Duration::from_millis(500)..=Duration::from_secs(3600)).contains(&interval) {
        return Err(Fault::local(format!("-interval: {} is too often or too seldom", args.interval)).cure("500ms to 1h"));
    }
    // A node that is down must not hold the picture up.
    let client = connect::client_with(global, |builder| {
        builder.retries_max(0).timeout(2 * ASK_TIMEOUT).attempt_timeout(ASK_TIMEOUT).connect_timeout(ASK_TIMEOUT)
    })?;
    if args.once || !printer.is_for_people() || printer.wants_field() {
        return once(&client, printer, interval).await;
    }
    match Screen::open()? {
        Some(screen) => live(&client, screen, interval, &args.interval).await,
        None => once(&client, printer, interval).await,
    }
}

/// Two looks, as rates are of the time between.
async fn once(client: &Client, printer: &Printer, interval: Duration) -> Result<(), Fault> {
    let mut looker = Looker { client, known: Members::default(), last: None };
    looker.look().await?;
    tokio::time::sleep(interval).await;
    let look = looker.look().await?;
    let whole = serde_json::to_value(look).map_err(|error| Fault::local(format!("write the answer: {error}")))?;
    let fields = whole.as_object().cloned().unwrap_or_default();
    printer.answer(&fields, &Value::Object(fields.clone()), || {
        let width = terminal_columns().unwrap_or(view::WIDTH_DEFAULT);
        view::draw(look, width, "").join("\n") + "\n"
    })?;
    if look.reachable() == 0 { Err(Fault::code(NO_ANSWER)) } else { Ok(()) }
}

async fn live(client: &Client, mut screen: Screen, interval: Duration, said: &str) -> Result<(), Fault> {
    let listen = |kind| signal(kind).map_err(|error| Fault::local(format!("listen for signals: {error}")));
    let mut resized = listen(SignalKind::window_change())?;
    let mut ends = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?];
    let hint = format!("every {said}; q ends");
    let mut looker = Looker { client, known: Members::default(), last: None };
    screen.draw(&["asking the nodes …".to_owned()])?;
    loop {
        tokio::select! {
            look = looker.look() => { look?; }
            () = any(&mut ends) => return Ok(()),
            () = quit(&mut screen) => return Ok(()),
        }
        let pause = tokio::time::sleep(interval);
        tokio::pin!(pause);
        loop {
            if let Some(look) = &looker.last {
                screen.draw(&view::draw(look, screen::size().0, &hint))?;
            }
            tokio::select! {
                () = &mut pause => break,
                _ = resized.recv() => {}
                () = any(&mut ends) => return Ok(()),
                () = quit(&mut screen) => return Ok(()),
            }
        }
    }
}

/// When one of them has come.
async fn any(signals: &mut [Signal; 3]) {
    let [one, two, three] = signals;
    tokio::select! { _ = one.recv() => {}, _ = two.recv() => {}, _ = three.recv() => {} }
}

/// When somebody types q. Ctrl-C is a signal.
async fn quit(screen: &mut Screen) {
    while !matches!(screen.key().await, b'q' | b'Q') {}
}

/// Looks again and again, and remembers who the members are while nobody can tell.
struct Looker<'a> {
    client: &'a Client,
    known: Members,
    last: Option<Look>,
}

impl Looker<'_> {
    async fn look(&mut self) -> Result<&Look, Fault> {
        let (members, told) = Members::find(self.client).await;
        self.known = members.or(&self.known, !told.is_empty());
        let look = look::look(self.client, &self.known, &told, self.last.as_ref()).await?;
        Ok(self.last.insert(look))
    }
}
