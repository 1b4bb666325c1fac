//! Path help and the OpenAPI document: the tables of routes, told to people and to programs.
//!
//! Always: nothing is told that is not routed, since both come from the same tables. Format: OpenAPI 3.0.3.

use crypto::SecretBytes;
use engine::route::{Access, Field, FieldKind, MethodOutline, Outline, find_outline};
use serde_json::{Map, Value, json};
use types::Path;
use types::capability::Verb;

use crate::mount::Mount;
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::request::{Answer, Raw, Request};

/// Whether a request asks for help on its path, whatever the path does: `GET …?help=1`.
pub(crate) fn is_asked_for(request: &Request) -> bool {
    let says_yes = |(name, value): &(String, String)| name == "help" && !matches!(value.as_str(), "0" | "false");
    request.verb == Verb::Read && request.query.iter().any(says_yes)
}

/// Help on a path below a mount: as people and as programs read it.
pub(crate) fn operation(mount: &Mount, rest: &Path, routes: Vec<Outline>) -> Box<dyn Operation> {
    let part = Part { mount_path: mount.path.clone(), kind: mount.kind.clone(), routes };
    let rest = rest.clone();
    planned(move |_| {
        let routes = match find_outline(&part.routes, &rest) {
            _ if rest.is_root() => part.routes.clone(),
            Some(route) => vec![route.clone()],
            None => return Err(PlanError::NoSuch("unsupported path".into())),
        };
        let told = Part { mount_path: part.mount_path.clone(), kind: part.kind.clone(), routes };
        let help = json!({ "help": text(&part, &rest), "see_also": null, "openapi": openapi([&told], "1") });
        // As Vault: not in an envelope.
        let body = SecretBytes::from(help.to_string().into_bytes());
        Ok(Outcome::answer(Answer::Raw(Raw { content_type: "application/json".into(), body })))
    })
}

/// What is told of one mount.
pub(crate) struct Part {
    /// Where it is mounted, with a slash at the end.
    pub(crate) mount_path: String,
    /// What stands there.
    pub(crate) kind: String,
    /// Its routes.
    pub(crate) routes: Vec<Outline>,
}

/// A pattern as OpenAPI writes it: `{path...}` is one parameter like any other.
fn template(pattern: &str) -> String {
    pattern.replace("...}", "}")
}

fn schema(kind: FieldKind) -> Value {
    match kind {
        FieldKind::Text => json!({ "type": "string" }),
        FieldKind::Integer => json!({ "type": "integer", "format": "int64" }),
        FieldKind::Duration => json!({ "type": "string", "format": "duration" }),
        FieldKind::Boolean => json!({ "type": "boolean" }),
        FieldKind::List => json!({ "type": "array", "items": { "type": "string" } }),
        FieldKind::Integers => json!({ "type": "array", "items": { "type": "integer", "format": "int64" } }),
        FieldKind::Map => json!({ "type": "object" }),
        FieldKind::Any => json!({}),
    }
}

fn parameter(field: &Field, place: &str) -> Value {
    json!({ "name": field.name, "description": field.about, "in": place, "required": field.required || place == "path", "schema": schema(field.kind) })
}

/// The words of an operation's id: `kv-v2 read data/{path}` → `kv-v2-read-data-path`.
fn operation_id(part: &Part, verb: Verb, pattern: &str) -> String {
    let words = format!("{} {} {}", part.mount_path, verb, pattern);
    let mut id = String::with_capacity(words.len());
    for letter in words.chars() {
        if letter.is_ascii_alphanumeric() {
            id.push(letter.to_ascii_lowercase());
        } else if !id.ends_with('-') && !id.is_empty() {
            id.push('-');
        }
    }
    id.trim_end_matches('-').to_owned()
}

/// The HTTP methods that lead to a verb. A list is also a `GET` with `list=true`, which is what OpenAPI can say.
fn http_methods(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Read | Verb::List | Verb::Scan => &["get"],
        Verb::Write => &["post"],
        Verb::Patch => &["patch"],
        Verb::Delete => &["delete"],
    }
}

fn described(part: &Part, route: &Outline, method: &MethodOutline) -> Value {
    let mut operation = Map::new();
    operation.insert("summary".into(), json!(method.summary));
    operation.insert("operationId".into(), json!(operation_id(part, method.verb, route.pattern)));
    operation.insert("tags".into(), json!([part.kind]));
    let parameters: Vec<Value> = method.query.iter().map(|field| parameter(field, "query")).collect();
    operation.insert("parameters".into(), Value::Array(parameters));
    if !method.fields.is_empty() {
        let properties: Map<String, Value> = method
            .fields
            .iter()
            .map(|field| {
                let mut property = schema(field.kind);
                property["description"] = json!(field.about);
                (field.name.to_owned(), property)
            })
            .collect();
        let required: Vec<&str> = method.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        let mut body = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            body["required"] = json!(required);
        }
        let media_type = if method.verb == Verb::Patch { "application/merge-patch+json" } else { "application/json" };
        operation.insert("requestBody".into(), json!({ "required": !required.is_empty(), "content": { media_type: { "schema": body } } }));
    }
    operation.insert("responses".into(), json!({ "default": { "description": "Vault's envelope, or its errors." } }));
    match route.access {
        access if access.is_open(method.verb) => drop(operation.insert("security".into(), json!([]))),
        // With a token, or with a share in the body.
        Access::SudoOrShare => drop(operation.insert("security".into(), json!([{ "token": [] }, {}]))),
        _ => {}
    }
    Value::Object(operation)
}

/// Two verbs that are both a `GET`: one operation, with the parameter that tells them apart.
fn add_listing(get: &mut Value, method: &MethodOutline) {
    let name = if method.verb == Verb::Scan { "scan" } else { "list" };
    if let Some(parameters) = get["parameters"].as_array_mut() {
        let known = |name: &str, parameters: &[Value]| parameters.iter().any(|parameter| parameter["name"] == name);
        if !known(name, parameters) {
            let about = format!("{} (if true).", method.summary.trim_end_matches('.'));
            parameters.push(parameter(&Field { name, kind: FieldKind::Boolean, about: "", required: false }, "query"));
            if let Some(added) = parameters.last_mut() {
                added["description"] = json!(about);
            }
        }
        for field in method.query {
            if !known(field.name, parameters) {
                parameters.push(parameter(field, "query"));
            }
        }
    }
}

/// The OpenAPI document of these mounts.
pub(crate) fn openapi<'a>(parts: impl IntoIterator<Item = &'a Part>, version: &str) -> Value {
    let mut paths = Map::new();
    for part in parts {
        for route in &part.routes {
            let mut item = Map::new();
            item.insert("description".into(), json!(route.about));
            if !route.parameters.is_empty() {
                item.insert("parameters".into(), route.parameters.iter().map(|field| parameter(field, "path")).collect());
            }
            item.insert("x-vault-sudo".into(), json!(matches!(route.access, Access::Sudo | Access::SudoOrShare)));
            item.insert("x-vault-unauthenticated".into(), json!(route.access == Access::Anyone));
            for method in &route.methods {
                for name in http_methods(method.verb) {
                    let is_listing = matches!(method.verb, Verb::List | Verb::Scan);
                    let get = item.entry(*name).or_insert_with(|| described(part, route, method));
                    if is_listing {
                        add_listing(get, method);
                    }
                }
            }
            paths.insert(format!("/{}{}", part.mount_path, template(route.pattern)), Value::Object(item));
        }
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Conclave's HTTP API",
            "description": "Every route lies below /v1/.",
            "version": version,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "servers": [{ "url": "/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": { "securitySchemes": { "token": { "type": "apiKey", "in": "header", "name": "X-Vault-Token" } } },
    })
}

/// What is told of one path: of its route; of the mount itself, all that it has.
pub(crate) fn text(part: &Part, rest: &Path) -> String {
    match find_outline(&part.routes, rest).filter(|_| !rest.is_root()) {
        Some(route) => route_text(part, route, rest),
        None => {
            let mut text = format!(
                "## DESCRIPTION\n\nA mount of type {}.\n\n## PATHS\n\nAsk for help on any of these paths below {}:\n",
                part.kind, part.mount_path
            );
            for route in &part.routes {
                text.push_str(&format!("\n    {}\n        {}\n", if route.pattern.is_empty() { "." } else { route.pattern }, route.about));
            }
            text
        }
    }
}

fn route_text(part: &Part, route: &Outline, rest: &Path) -> String {
    let mut text = format!(
        "Request:        {}\nMatching Route: {}\nMount:          {}\n\n## DESCRIPTION\n\n{}\n",
        rest.as_str(),
        route.pattern,
        part.mount_path,
        route.about
    );
    match route.access {
        Access::Anyone => text.push_str("\nNo token is needed.\n"),
        Access::Sudo => text.push_str("\nThe token's policies must grant sudo here.\n"),
        Access::SudoOrShare => text.push_str(
            "\nReading needs no token. A change needs a token whose policies grant sudo here or, in place of it, one of the cluster's shares.\n",
        ),
        Access::Token => {}
    }
    if !route.parameters.is_empty() {
        text.push_str("\n## PARAMETERS\n");
        route.parameters.iter().for_each(|field| text.push_str(&field_text(field)));
    }
    for method in &route.methods {
        text.push_str(&format!("\n## {}\n\n{}\n", method.verb.as_str().to_uppercase(), method.summary));
        method.fields.iter().chain(method.query).for_each(|field| text.push_str(&field_text(field)));
    }
    text
}

fn field_text(field: &Field) -> String {
    let kind = match field.kind {
        FieldKind::Text => "string",
        FieldKind::Integer => "int",
        FieldKind::Duration => "duration",
        FieldKind::Boolean => "bool",
        FieldKind::List | FieldKind::Integers => "slice",
        FieldKind::Map => "map",
        FieldKind::Any => "any",
    };
    format!("\n    {} ({kind}{})\n        {}\n", field.name, if field.required { ", required" } else { "" }, field.about)
}
