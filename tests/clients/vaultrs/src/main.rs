//! vaultrs drives one area of the API: run by tests/acceptance/area/mod.rs.
//!
//! Usage: `vaultrs-areas AREA < {"addresses": […], "token": a root token, "server": "conclave" or "openbao"}`
//!
//! The server is open. Everything is done at mounts and names that begin with `vr`. Prints a line a check, then `N passed, N
//! failed`; ends with 1 if one has failed. Neighbouring checks ask different nodes. vaultrs parses each answer into structs whose
//! fields must all be there, so what is tried is also that none is missing. What OpenBao 2.7.2 leaves out is tried of Conclave only.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use vaultrs::api::ResponseWrapper as _;
use vaultrs::api::auth::approle::requests::SetAppRoleRequest;
use vaultrs::api::auth::userpass::requests::CreateUserRequest;
use vaultrs::api::kv2::requests::{SetSecretMetadataRequest, SetSecretRequestOptions};
use vaultrs::api::sys::requests::{EnableEngineRequest, ListMountsRequest};
use vaultrs::api::token::requests::{CreateTokenRequest, SetTokenRoleRequest};
use vaultrs::auth::{approle, userpass};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{cubbyhole, kv1, kv2, sys, token};

/// How often something that takes a moment is asked for.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// The nodes, asked in turn, and what came of it.
struct World {
    addresses: Vec<String>,
    token: String,
    is_openbao: bool,
    turn: usize,
    passed: u32,
    failed: u32,
}

impl World {
    fn new(given: &Value) -> World {
        let addresses = given["addresses"].as_array().expect("addresses are given");
        World {
            addresses: addresses.iter().map(|address| address.as_str().expect("an address is a text").to_owned()).collect(),
            token: given["token"].as_str().expect("a token is given").to_owned(),
            is_openbao: given["server"] == "openbao",
            turn: 0,
            passed: 0,
            failed: 0,
        }
    }

    /// The next node, as root.
    fn client(&mut self) -> VaultClient {
        let token = self.token.clone();
        self.client_in(&token, None)
    }

    /// The next node, with this token.
    fn client_as(&mut self, token: &str) -> VaultClient {
        self.client_in(token, None)
    }

    fn client_in(&mut self, token: &str, namespace: Option<&str>) -> VaultClient {
        let address = &self.addresses[self.turn % self.addresses.len()];
        self.turn += 1;
        let mut settings = VaultClientSettingsBuilder::default();
        settings.address(address).token(token);
        if let Some(namespace) = namespace {
            settings.set_namespace(namespace.to_owned());
        }
        VaultClient::new(settings.build().expect("the settings are right")).expect("the settings are right")
    }

    /// It must be answered; what was answered is returned.
    fn ok<T>(&mut self, name: &str, answer: Result<T, ClientError>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.note(name, None);
                Some(answer)
            }
            Err(error) => {
                self.note(name, Some(tell(&error)));
                None
            }
        }
    }

    /// It must be this.
    fn equal<T: PartialEq<W> + Debug, W: Debug>(&mut self, name: &str, found: Result<T, ClientError>, want: W) {
        let mistake = match found {
            Ok(found) if found == want => None,
            Ok(found) => Some(format!("found {found:?}, want {want:?}")),
            Err(error) => Some(tell(&error)),
        };
        self.note(name, mistake);
    }

    /// It must be refused with this status.
    fn refused<T>(&mut self, name: &str, answer: Result<T, ClientError>, status: u16) {
        let mistake = match answer {
            Ok(_) => Some("it was answered".to_owned()),
            Err(ClientError::APIError { code, .. }) if code == status => None,
            Err(error) => Some(format!("{}, want {status}", tell(&error))),
        };
        self.note(name, mistake);
    }

    fn note(&mut self, name: &str, mistake: Option<String>) {
        match mistake {
            None => {
                self.passed += 1;
                println!("ok      {name}");
            }
            Some(mistake) => {
                self.failed += 1;
                println!("FAILED  {name}: {mistake}");
            }
        }
    }
}

/// An error and its causes.
fn tell(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} ({error:?})");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn fields(pairs: &[(&'static str, &'static str)]) -> HashMap<&'static str, &'static str> {
    pairs.iter().copied().collect()
}

async fn kv(world: &mut World) {
    let version = HashMap::from([("version".to_owned(), "2".to_owned())]);
    let mounted = sys::mount::enable(&world.client(), "vr-kv", "kv", Some(EnableEngineRequest::builder().options(version))).await;
    world.ok("mount::enable", mounted);
    // OpenBao answers 400 for a moment after its mount.
    let mut set = kv2::set(&world.client(), "vr-kv", "a", &fields(&[("x", "1")])).await;
    for _ in 0..TRIES {
        match &set {
            Err(ClientError::APIError { code: 400, errors }) if errors.iter().any(|text| text.contains("Upgrading")) => {}
            _ => break,
        }
        tokio::time::sleep(PAUSE).await;
        set = kv2::set(&world.client(), "vr-kv", "a", &fields(&[("x", "1")])).await;
    }
    world.equal("kv2::set", set.map(|set| set.version), 1);
    let set = kv2::set(&world.client(), "vr-kv", "a", &fields(&[("x", "2")])).await;
    world.equal("kv2::set again", set.map(|set| set.version), 2);
    let read = kv2::read::<HashMap<String, String>>(&world.client(), "vr-kv", "a").await;
    world.equal("kv2::read", read.map(|read| read["x"].clone()), "2");
    let read = kv2::read_version::<HashMap<String, String>>(&world.client(), "vr-kv", "a", 1).await;
    world.equal("kv2::read_version", read.map(|read| read["x"].clone()), "1");
    let stale = SetSecretRequestOptions { cas: 1 };
    let set = kv2::set_with_options(&world.client(), "vr-kv", "a", &fields(&[("x", "3")]), stale).await;
    world.refused("kv2::set_with_options with a stale cas", set, 400);
    let list = kv2::list(&world.client(), "vr-kv", "").await;
    world.equal("kv2::list", list, ["a"]);
    let settings = kv2::set_metadata(&world.client(), "vr-kv", "a", Some(SetSecretMetadataRequest::builder().max_versions(3u64))).await;
    world.ok("kv2::set_metadata", settings);
    let metadata = kv2::read_metadata(&world.client(), "vr-kv", "a").await;
    world.equal("kv2::read_metadata", metadata.map(|metadata| (metadata.max_versions, metadata.current_version)), (3, 2));
    let deleted = kv2::delete_versions(&world.client(), "vr-kv", "a", vec![2]).await;
    world.ok("kv2::delete_versions", deleted);
    let read = kv2::read_version::<Value>(&world.client(), "vr-kv", "a", 2).await;
    world.note("a deleted version is not read", read.is_ok().then(|| "it was".to_owned()));
    let back = kv2::undelete_versions(&world.client(), "vr-kv", "a", vec![2]).await;
    world.ok("kv2::undelete_versions", back);
    let destroyed = kv2::destroy_versions(&world.client(), "vr-kv", "a", vec![1]).await;
    world.ok("kv2::destroy_versions", destroyed);
    let metadata = kv2::read_metadata(&world.client(), "vr-kv", "a").await;
    world.equal(
        "what is destroyed",
        metadata.map(|metadata| (metadata.versions["1"].destroyed, metadata.versions["2"].destroyed)),
        (true, false),
    );
    let settings = kv2::config::read(&world.client(), "vr-kv").await;
    world.equal("kv2::config::read", settings.map(|settings| settings.cas_required), false);
    let deleted = kv2::delete_metadata(&world.client(), "vr-kv", "a").await;
    world.ok("kv2::delete_metadata", deleted);
    let read = kv2::read::<Value>(&world.client(), "vr-kv", "a").await;
    world.refused("after that nothing is there", read, 404);
}

async fn kv_v1(world: &mut World) {
    let mounted = sys::mount::enable(&world.client(), "vr-kv1", "kv", None).await;
    world.ok("mount::enable", mounted);
    let set = kv1::set(&world.client(), "vr-kv1", "a", &fields(&[("x", "1")])).await;
    world.ok("kv1::set", set);
    let read = kv1::get::<HashMap<String, String>>(&world.client(), "vr-kv1", "a").await;
    world.equal("kv1::get", read.map(|read| read["x"].clone()), "1");
    let raw = kv1::get_raw(&world.client(), "vr-kv1", "a").await;
    world.equal("kv1::get_raw", raw.map(|raw| raw.lease_duration), 2_764_800);
    let list = kv1::list(&world.client(), "vr-kv1", "").await;
    world.equal("kv1::list", list.map(|list| list.data.keys), ["a"]);
    let deleted = kv1::delete(&world.client(), "vr-kv1", "a").await;
    world.ok("kv1::delete", deleted);
    let read = kv1::get::<Value>(&world.client(), "vr-kv1", "a").await;
    world.refused("it is gone", read, 404);
}

async fn tokens(world: &mut World) {
    let made = token::new(&world.client(), Some(CreateTokenRequest::builder().policies(vec!["default".to_owned()]).ttl("1h"))).await;
    let Some(made) = world.ok("token::new", made) else { return };
    world.equal("its policies", Ok(made.token_policies), ["default"]);
    let look = token::lookup(&world.client(), &made.client_token).await;
    world.equal("token::lookup", look.map(|look| (look.creation_ttl, look.orphan)), (3600, false));
    let look = token::lookup_self(&world.client_as(&made.client_token)).await;
    world.equal("token::lookup_self", look.map(|look| look.accessor), made.accessor.clone());
    let look = token::lookup_accessor(&world.client(), &made.accessor).await;
    world.equal("token::lookup_accessor", look.map(|look| look.id), "");
    let renewed = token::renew(&world.client(), &made.client_token, Some("30m")).await;
    world.equal("token::renew", renewed.map(|renewed| renewed.lease_duration), 1800);
    let renewed = token::renew_self(&world.client_as(&made.client_token), Some("20m")).await;
    world.equal("token::renew_self", renewed.map(|renewed| renewed.lease_duration), 1200);
    let renewed = token::renew_accessor(&world.client(), &made.accessor, Some("10m")).await;
    world.equal("token::renew_accessor", renewed.map(|renewed| renewed.lease_duration), 600);
    let revoked = token::revoke_accessor(&world.client(), &made.accessor).await;
    world.ok("token::revoke_accessor", revoked);
    let look = token::lookup_self(&world.client_as(&made.client_token)).await;
    world.refused("it is dead", look, 403);
    let role =
        token::role::set(&world.client(), "vr", Some(SetTokenRoleRequest::builder().allowed_policies(vec!["default".to_owned()]))).await;
    world.ok("token::role::set", role);
    let role = token::role::read(&world.client(), "vr").await;
    world.equal("token::role::read", role.map(|role| role.allowed_policies), ["default"]);
    let roles = token::role::list(&world.client()).await;
    world.equal("token::role::list", roles.map(|roles| roles.keys.contains(&"vr".to_owned())), true);
    let made = token::new_role(&world.client(), "vr", None).await;
    if let Some(made) = world.ok("token::new_role", made) {
        let revoked = token::revoke_self(&world.client_as(&made.client_token)).await;
        world.ok("token::revoke_self", revoked);
    }
    let deleted = token::role::delete(&world.client(), "vr").await;
    world.ok("token::role::delete", deleted);
    let orphan = token::new_orphan(&world.client(), None).await;
    world.equal("token::new_orphan", orphan.map(|orphan| orphan.orphan), true);
}

async fn policies(world: &mut World) {
    let text = "path \"vr/*\" { capabilities = [\"read\"] }\n";
    let set = sys::policy::set(&world.client(), "vr", text).await;
    world.ok("policy::set", set);
    let read = sys::policy::read(&world.client(), "vr").await;
    world.equal("policy::read", read.map(|read| read.rules), text);
    let list = sys::policy::list(&world.client()).await;
    world.equal("policy::list", list.map(|list| list.policies.contains(&"vr".to_owned())), true);
    let set = sys::policy::set(&world.client(), "vr2", "path {").await;
    world.refused("a policy that is none", set, 400);
    let deleted = sys::policy::delete(&world.client(), "vr").await;
    world.ok("policy::delete", deleted);
    let read = sys::policy::read(&world.client(), "vr").await;
    world.refused("it is gone", read, 404);
}

async fn mounts(world: &mut World) {
    let enabled = sys::mount::enable(&world.client(), "vr-m", "kv", Some(EnableEngineRequest::builder().description("d"))).await;
    world.ok("mount::enable", enabled);
    let list = sys::mount::list(&world.client()).await;
    world.equal("mount::list", list.map(|list| list["vr-m/"].description.clone()), "d");
    let settings = sys::mount::get_configuration_of_a_secret_engine(&world.client(), "vr-m").await;
    world.equal("mount::get_configuration_of_a_secret_engine", settings.map(|settings| settings.mount_type), "kv");
    let moved = sys::remount::remount(&world.client(), "vr-m", "vr-n").await;
    if let Some(moved) = world.ok("remount::remount", moved) {
        let mut status = sys::remount::remount_status(&world.client(), &moved.migration_id).await;
        for _ in 0..TRIES {
            match &status {
                Ok(found) if found.migration_info.status == "in-progress" => tokio::time::sleep(PAUSE).await,
                _ => break,
            }
            status = sys::remount::remount_status(&world.client(), &moved.migration_id).await;
        }
        world.equal("remount::remount_status", status.map(|status| status.migration_info.status), "success");
    }
    let disabled = sys::mount::disable(&world.client(), "vr-n").await;
    world.ok("mount::disable", disabled);
}

async fn auth(world: &mut World) {
    let enabled = sys::auth::enable(&world.client(), "vr-up", "userpass", None).await;
    world.ok("auth::enable", enabled);
    let list = sys::auth::list(&world.client()).await;
    world.equal("auth::list", list.map(|list| list["vr-up/"].mount_type.clone()), "userpass");
    let set = userpass::user::set(
        &world.client(),
        "vr-up",
        "bob",
        "builder-1",
        Some(CreateUserRequest::builder().token_policies(vec!["a".to_owned()])),
    )
    .await;
    world.ok("userpass::user::set", set);
    let read = userpass::user::read(&world.client(), "vr-up", "bob").await;
    world.equal("userpass::user::read", read.map(|read| read.token_policies), ["a"]);
    let list = userpass::user::list(&world.client(), "vr-up").await;
    world.equal("userpass::user::list", list.map(|list| list.keys), ["bob"]);
    let login = userpass::login(&world.client_as(""), "vr-up", "bob", "builder-1").await;
    world.equal("userpass::login", login.map(|login| login.policies), ["a", "default"]);
    let login = userpass::login(&world.client_as(""), "vr-up", "bob", "wrong").await;
    world.refused("a wrong password", login, 400);
    let changed = userpass::user::update_password(&world.client(), "vr-up", "bob", "builder-2").await;
    world.ok("userpass::user::update_password", changed);
    let login = userpass::login(&world.client_as(""), "vr-up", "bob", "builder-2").await;
    world.ok("the new password", login);
    let deleted = userpass::user::delete(&world.client(), "vr-up", "bob").await;
    world.ok("userpass::user::delete", deleted);

    let enabled = sys::auth::enable(&world.client(), "vr-ar", "approle", None).await;
    world.ok("enable approle", enabled);
    let set = approle::role::set(
        &world.client(),
        "vr-ar",
        "app",
        Some(SetAppRoleRequest::builder().token_ttl("10m").token_policies(vec!["a".to_owned()])),
    )
    .await;
    world.ok("approle::role::set", set);
    let read = approle::role::read(&world.client(), "vr-ar", "app").await;
    world.equal("approle::role::read", read.map(|read| (read.token_ttl, read.bind_secret_id)), (600, true));
    let list = approle::role::list(&world.client(), "vr-ar").await;
    world.equal("approle::role::list", list.map(|list| list.keys), ["app"]);
    let id = approle::role::read_id(&world.client(), "vr-ar", "app").await;
    let Some(id) = world.ok("approle::role::read_id", id) else { return };
    let secret = approle::role::secret::generate(&world.client(), "vr-ar", "app", None).await;
    let Some(secret) = world.ok("approle::role::secret::generate", secret) else { return };
    let login = approle::login(&world.client_as(""), "vr-ar", &id.role_id, &secret.secret_id).await;
    world.equal("approle::login", login.map(|login| login.lease_duration), 600);
    let read = approle::role::secret::read_accessor(&world.client(), "vr-ar", "app", &secret.secret_id_accessor).await;
    world.equal("approle::role::secret::read_accessor", read.map(|read| read.secret_id_accessor), secret.secret_id_accessor.clone());
    let list = approle::role::secret::list(&world.client(), "vr-ar", "app").await;
    world.equal("approle::role::secret::list", list.map(|list| list.keys), [secret.secret_id_accessor]);
    let deleted = approle::role::secret::delete(&world.client(), "vr-ar", "app", &secret.secret_id).await;
    world.ok("approle::role::secret::delete", deleted);
    let login = approle::login(&world.client_as(""), "vr-ar", &id.role_id, &secret.secret_id).await;
    world.refused("a deleted secret id", login, 400);
    for path in ["vr-up", "vr-ar"] {
        let disabled = sys::auth::disable(&world.client(), path).await;
        world.ok(&format!("auth::disable of {path}"), disabled);
    }
}

async fn wrapping(world: &mut World) {
    let wrapped = ListMountsRequest::builder().build().expect("it has no fields").wrap(&world.client()).await;
    let Some(wrapped) = world.ok("wrap", wrapped) else { return };
    let look = wrapped.lookup(&world.client()).await;
    world.equal("lookup", look.map(|look| (look.creation_path, look.creation_ttl)), ("sys/mounts".to_owned(), 600));
    let mounts = wrapped.unwrap(&world.client()).await;
    world.equal("unwrap", mounts.map(|mounts| mounts.contains_key("sys/")), true);
    let again = wrapped.unwrap(&world.client()).await;
    world.refused("once only", again, 400);
    let set = cubbyhole::set(&world.client(), "cubbyhole", "vr", &fields(&[("x", "1")])).await;
    world.ok("cubbyhole::set", set);
    let read = cubbyhole::get::<HashMap<String, String>>(&world.client(), "cubbyhole", "vr").await;
    world.equal("cubbyhole::get", read.map(|read| read["x"].clone()), "1");
    let deleted = cubbyhole::delete(&world.client(), "cubbyhole", "vr").await;
    world.ok("cubbyhole::delete", deleted);
}

async fn namespaces(world: &mut World) {
    // vaultrs makes none: it uses what bao's steps have left, a secret at kv/a in `blue`.
    let token = world.token.clone();
    let read = kv2::read::<HashMap<String, String>>(&world.client_in(&token, Some("blue")), "kv", "a").await;
    world.equal("read in a namespace", read.map(|read| read["colour"].clone()), "blue");
    let read = kv2::read::<Value>(&world.client(), "kv", "a").await;
    world.refused("not in root", read, 404);
    let list = sys::mount::list(&world.client_in(&token, Some("blue"))).await;
    world.equal("mounts of a namespace", list.map(|list| list.contains_key("kv/")), true);
    let list = sys::mount::list(&world.client_in(&token, Some("vr-nosuch"))).await;
    world.note("a namespace that is not there", list.is_ok().then(|| "it was answered".to_owned()));
}

async fn sys_area(world: &mut World) {
    let random = sys::tools::random(&world.client(), None).await;
    world.equal("tools::random", random.map(|random| random.random_bytes.is_empty()), false);
    if !world.is_openbao {
        let health = sys::health(&world.client()).await;
        world.equal("health", health.map(|health| (health.initialized, health.sealed, health.standby)), (true, false, false));
        let status = sys::status(&world.client()).await;
        world.equal("status", status.map(|status| format!("{status:?}")), "OK");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(area) = std::env::args().nth(1) else {
        eprintln!("usage: vaultrs-areas AREA < input");
        return ExitCode::from(2);
    };
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).expect("stdin can be read");
    let mut world = World::new(&serde_json::from_str(&input).unwrap_or_else(|_| json!({})));
    let least = match area.as_str() {
        "kv" => (kv(&mut world).await, 17).1,
        "kv_v1" => (kv_v1(&mut world).await, 7).1,
        "tokens" => (tokens(&mut world).await, 16).1,
        "policies" => (policies(&mut world).await, 6).1,
        "mounts" => (mounts(&mut world).await, 6).1,
        "auth" => (auth(&mut world).await, 23).1,
        "wrapping" => (wrapping(&mut world).await, 7).1,
        "namespaces" => (namespaces(&mut world).await, 4).1,
        "sys" => (sys_area(&mut world).await, 1).1,
        // vaultrs has no calls for these.
        "leases" | "audit" | "keys" | "path_help" => 0,
        other => {
            eprintln!("no area is called {other}");
            return ExitCode::from(2);
        }
    };
    if world.passed + world.failed < least {
        world.note(&format!("there are {least} checks or more"), Some(format!("{} ran", world.passed + world.failed)));
    }
    println!("{} passed, {} failed", world.passed, world.failed);
    if world.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
