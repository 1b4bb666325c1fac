//! `conclave kv`: both versions of the engine; the server tells which one is mounted where.

use client::{Client, Error, Method, Response, Transferred, TransferredSecret};
use serde_json::{Map, Value, json};

use super::{Answer, raw};
use crate::args::{Kv, KvMetadata};
use crate::data;
use crate::fault::Fault;
use crate::output::{Printer, field_rows, key_values, table, titled};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Kv) -> Result<(), Fault> {
    match command {
        Kv::Put { cas, mount, path, data } => {
            let fields = data::parse(&data, std::io::stdin())?;
            let place = Place::find(client, mount.mount, &path).await?;
            put(client, printer, &place, fields, cas).await
        }
        Kv::Get { version, mount, path } => get(client, printer, &Place::find(client, mount.mount, &path).await?, version).await,
        Kv::List { mount, path } => {
            let place = Place::find(client, mount.mount, &path).await?;
            raw::list(client, printer, &place.folder("metadata")).await
        }
        Kv::Delete { versions, mount, path } if versions.is_empty() => {
            let place = Place::find(client, mount.mount, &path).await?;
            raw::delete(client, printer, &place.secret("data")?).await
        }
        Kv::Delete { versions, mount, path } => {
            let place = Place::find(client, mount.mount, &path).await?;
            change(client, printer, &place, "delete", &versions, "Deleted").await
        }
        Kv::Undelete { versions, mount, path } => {
            let place = Place::find(client, mount.mount, &path).await?;
            change(client, printer, &place, "undelete", &versions, "Brought back").await
        }
        Kv::Destroy { versions, mount, path } => {
            let place = Place::find(client, mount.mount, &path).await?;
            change(client, printer, &place, "destroy", &versions, "Destroyed").await
        }
        Kv::Move(args) => {
            let act = format!("move {} to {}", args.from, args.to);
            let moved = client.sys().move_secrets(&args.from, &args.to, args.overwrite).await;
            transferred(printer, "Moved", &moved.map_err(|error| Fault::from(error).during(&act))?)
        }
        Kv::Copy(args) => {
            let act = format!("copy {} to {}", args.from, args.to);
            let copied = client.sys().copy_secrets(&args.from, &args.to, args.overwrite).await;
            transferred(printer, "Copied", &copied.map_err(|error| Fault::from(error).during(&act))?)
        }
        Kv::Metadata(KvMetadata::Get { mount, path }) => metadata(client, printer, &Place::find(client, mount.mount, &path).await?).await,
        Kv::Metadata(KvMetadata::Delete { mount, path }) => {
            let place = Place::find(client, mount.mount, &path).await?;
            place.must_have_versions()?;
            raw::delete(client, printer, &place.secret("metadata")?).await
        }
    }
}

/// Where a secret is: its mount, and the path below it.
struct Place {
    /// Ends with `/`; empty when the server did not tell.
    mount: String,
    path: String,
    versioned: bool,
}

impl Place {
    /// Asks the server which mount `path` is in. `given` takes the place of the first part of the path.
    async fn find(client: &Client, given: Option<String>, path: &str) -> Result<Place, Fault> {
        let path = path.trim_start_matches('/');
        let full = match &given {
            Some(mount) => format!("{}/{path}", mount.trim_matches('/')),
            None => path.to_owned(),
        };
        let asked = format!("sys/internal/ui/mounts/{}", given.as_deref().unwrap_or(&full).trim_matches('/'));
        // The question is ours, not the caller's: its answer is never wrapped.
        match client.wrapping(None).request(Method::Get, &asked).send().await {
            Ok(response) => Place::from_answer(&Answer::required(&response)?.data, &full),
            // Servers from before KV v2 do not know the question.
            Err(error) if error.is_not_found() => Ok(Place { mount: String::new(), path: full, versioned: false }),
            Err(error @ Error::Refused(_)) => Err(Fault::from(error).during(&format!("find the mount of {full:?}"))),
            Err(error) => Err(error.into()),
        }
    }

    fn from_answer(data: &Map<String, Value>, full: &str) -> Result<Place, Fault> {
        let mount = data.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = data.get("options").and_then(|options| options.get("version")).and_then(Value::as_str);
        let with_slash = format!("{full}/");
        let path = with_slash.strip_prefix(mount.as_str()).ok_or_else(|| {
            Fault::server(format!("the server puts {full:?} into the mount {mount:?}, which does not hold it")).cure("use -mount")
        })?;
        // Only a slash that the caller wrote stays.
        let path = path.strip_suffix('/').unwrap_or(path).to_owned();
        Ok(Place { mount, path, versioned: version == Some("2") })
    }

    /// The API's path of a secret; `part` only where there are versions.
    fn secret(&self, part: &str) -> Result<String, Fault> {
        if self.path.trim_matches('/').is_empty() {
            return Err(Fault::local(format!("{:?} is a mount, not a secret", self.mount)).cure("name a secret below it"));
        }
        Ok(self.join(part))
    }

    /// The API's path of a folder, which may be the mount itself.
    fn folder(&self, part: &str) -> String {
        self.join(part).trim_end_matches('/').to_owned()
    }

    fn join(&self, part: &str) -> String {
        if self.versioned { format!("{}{part}/{}", self.mount, self.path) } else { format!("{}{}", self.mount, self.path) }
    }

    fn must_have_versions(&self) -> Result<(), Fault> {
        if self.versioned {
            return Ok(());
        }
        Err(Fault::local(format!("the mount of {:?} keeps no versions", self.join("")))
            .cure("it is KV version 1; mount one with -version=2"))
    }
}

/// What a move or a copy did.
fn transferred(printer: &Printer, done: &str, what: &Transferred) -> Result<(), Fault> {
    let whole = serde_json::to_value(what).map_err(|error| Fault::local(format!("write the answer: {error}")))?;
    let fields = whole.as_object().cloned().unwrap_or_default();
    printer.answer(&fields, &whole, || {
        let row =
            |secret: &TransferredSecret| [secret.from.clone(), secret.to.clone(), if secret.replaced { "yes" } else { "no" }.to_owned()];
        let rows: Vec<[String; 3]> = what.secrets.iter().map(row).collect();
        format!("Success! {done}, with all versions: {}\n\n{}", rows.len(), table(["From", "To", "Replaced"], &rows))
    })
}

async fn put(client: &Client, printer: &Printer, place: &Place, fields: Map<String, Value>, cas: Option<u64>) -> Result<(), Fault> {
    if cas.is_some() {
        place.must_have_versions()?;
    }
    let path = place.secret("data")?;
    let body = match (place.versioned, cas) {
        (true, Some(cas)) => json!({"data": fields, "options": {"cas": cas}}),
        (true, None) => json!({"data": fields, "options": {}}),
        (false, _) => Value::Object(fields),
    };
    let response = client.request(Method::Put, &path).body(&body).send().await;
    let response = response.map_err(|error| Fault::from(error).during(&format!("write {path}")))?;
    match Answer::of(&response)? {
        None => printer.done(&format!("Success! Data written to: {path}")),
        Some(answer) if answer.is_wrapped => raw::show(printer, &answer),
        Some(answer) => printer.answer(&answer.data, &answer.whole, || {
            format!("{}\n{}", path_title(&path), titled("Metadata", &key_values(&field_rows(&answer.data))))
        }),
    }
}

async fn get(client: &Client, printer: &Printer, place: &Place, version: Option<u64>) -> Result<(), Fault> {
    let path = place.secret("data")?;
    let mut request = client.request(Method::Get, &path).accept(&[404]);
    if let Some(version) = version {
        place.must_have_versions()?;
        request = request.query("version", version.to_string());
    }
    let response = request.send().await.map_err(|error| Fault::from(error).during(&format!("read {path}")))?;
    let answer = found(&response, &path)?;
    if answer.is_wrapped {
        return raw::show(printer, &answer);
    }
    if !place.versioned {
        return printer.answer(&answer.data, &answer.whole, || titled("Data", &key_values(&field_rows(&answer.data))));
    }
    let part = |name: &str| answer.data.get(name).and_then(Value::as_object);
    let metadata = part("metadata").ok_or_else(|| Fault::server(format!("no value at {path}")))?;
    let head = || format!("{}\n{}", path_title(&path), titled("Metadata", &key_values(&field_rows(metadata))));
    match part("data") {
        Some(data) => printer.answer(data, &answer.whole, || format!("{}\n{}", head(), titled("Data", &key_values(&field_rows(data))))),
        // A deleted version is told with its metadata, and has no data.
        None if printer.wants_field() => Err(Fault::server(format!("no data at {path}: this version is deleted or destroyed"))
            .cure("`conclave kv metadata get` shows the versions, `conclave kv undelete` brings one back")),
        None => printer.answer(&Map::new(), &answer.whole, head),
    }
}

async fn change(client: &Client, printer: &Printer, place: &Place, act: &str, versions: &[u64], done: &str) -> Result<(), Fault> {
    place.must_have_versions()?;
    let path = place.secret(act)?;
    // The versions are named, so that doing it twice is doing it once.
    let response = client.request(Method::Post, &path).body(&json!({"versions": versions})).idempotent().send().await;
    response.map_err(|error| Fault::from(error).during(&format!("{act} {path}")))?;
    let list = versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    printer.done(&format!("Success! {done} (if it existed): version {list} of {}{}", place.mount, place.path))
}

async fn metadata(client: &Client, printer: &Printer, place: &Place) -> Result<(), Fault> {
    place.must_have_versions()?;
    let path = place.secret("metadata")?;
    let response = client.request(Method::Get, &path).accept(&[404]).send().await;
    let response = response.map_err(|error| Fault::from(error).during(&format!("read {path}")))?;
    let answer = found(&response, &path)?;
    if answer.is_wrapped {
        return raw::show(printer, &answer);
    }
    printer.answer(&answer.data, &answer.whole, || metadata_tables(&path, &answer.data))
}

/// The secret's own fields, then a table for each version.
fn metadata_tables(path: &str, data: &Map<String, Value>) -> String {
    let mut fields = data.clone();
    let versions = fields.shift_remove("versions");
    let mut text = format!("= Metadata Path =\n{path}\n\n{}", titled("Metadata", &key_values(&field_rows(&fields))));
    let mut versions: Vec<(u64, &Map<String, Value>)> = versions
        .as_ref()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(number, version)| Some((number.parse().ok()?, version.as_object()?)))
        .collect();
    versions.sort_by_key(|(number, _)| *number);
    for (number, version) in versions {
        text.push('\n');
        text.push_str(&titled(&format!("Version {number}"), &key_values(&field_rows(version))));
    }
    text
}

/// The answer of a read that took 404 for an answer: with data it is one, without it there is nothing there.
fn found(response: &Response, path: &str) -> Result<Answer, Fault> {
    match Answer::of(response)? {
        Some(answer) if response.status() != 404 || answer.whole.get("data").is_some_and(Value::is_object) => Ok(answer),
        _ => Err(Fault::server(format!("no value at {path}"))),
    }
}

fn path_title(path: &str) -> String {
    format!("== Secret Path ==\n{path}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mount: &str, version: &str, full: &str) -> Result<Place, Fault> {
        let answer = json!({"path": mount, "options": {"version": version}});
        Place::from_answer(answer.as_object().unwrap(), full)
    }

    #[test]
    fn the_mount_decides_where_a_secret_is() {
        for (mount, version, full, secret, folder) in [
            ("secret/", "2", "secret/a", Some("secret/data/a"), "secret/metadata/a"),
            ("secret/", "2", "secret/a/b/", Some("secret/data/a/b/"), "secret/metadata/a/b"),
            ("secret/", "2", "secret", None, "secret/metadata"),
            ("secret/", "2", "secret/", None, "secret/metadata"),
            ("team/kv/", "2", "team/kv/a", Some("team/kv/data/a"), "team/kv/metadata/a"),
            ("old/", "1", "old/a", Some("old/a"), "old/a"),
            ("old/", "1", "old", None, "old"),
        ] {
            let place = place(mount, version, full).unwrap();
            assert_eq!(place.secret("data").ok().as_deref(), secret, "{full}");
            assert_eq!(place.folder("metadata"), folder, "{full}");
        }
        assert!(place("secret/", "2", "other/a").is_err());
    }

    #[test]
    fn versions_are_shown_in_the_order_of_their_numbers() {
        let data = json!({"current_version": 10, "versions": {"10": {"destroyed": false}, "2": {"destroyed": true}}});
        let text = metadata_tables("secret/metadata/a", data.as_object().unwrap());
        let (two, ten) = (text.find("Version 2 ").unwrap(), text.find("Version 10 ").unwrap());
        assert!(two < ten, "{text}");
    }
}
