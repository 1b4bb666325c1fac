//! Who may do what, asked through the command line; secrets that move; transactions; namespaces; tokens.

use client::{Client, SecretString, TransactionResult};
use serde_json::{Value, json};
use tests::{Cluster, Command, fields};

/// A command of the cluster's owner, at any node.
fn root(cluster: &Cluster, args: &str) -> Command {
    let addresses: Vec<String> = cluster.nodes.iter().map(tests::Node::api_address).collect();
    Command::new(args).to(&addresses.join(","), &cluster.keys().root_token)
}

/// A node that does not lead.
async fn follower(cluster: &mut Cluster) -> usize {
    let leader = cluster.leader().await;
    (leader + 1) % cluster.nodes.len()
}

/// A token with these policies, through the command line.
fn token(cluster: &Cluster, args: &str) -> String {
    root(cluster, &format!("token create -field=client_token {args}")).run().expect_code(0).stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_its_request_and_is_explained_at_any_node() {
    let mut cluster = Cluster::builder().nodes(3).open().await;
    let (leader, follower) = (cluster.leader().await, follower(&mut cluster).await);
    let policy = r#"path "secret/data/app" { capabilities = ["read"] }"#;
    root(&cluster, "policy write app -").stdin(policy).run().expect_code(0);
    assert_eq!(root(&cluster, "policy read app -field=policy").run().expect_code(0).stdout, policy);
    assert!(root(&cluster, "policy list").run().expect_code(0).stdout.lines().any(|line| line == "app"));
    let token = token(&cluster, "-policy=app");

    let [at_follower, at_leader] = [follower, leader].map(|at| cluster.nodes[at].api_address());
    let denied = Command::new("read secret/data/other").to(&at_follower, &token).run().expect_code(2);
    let id = denied.stderr.split("conclave policy explain ").nth(1).and_then(|rest| rest.split('`').next()).unwrap_or_default().to_owned();
    assert!(id.len() > 30 && denied.stderr.contains(&format!("request {id}")), "{denied:?}");

    // Asked of the leader alone, which did not deny it: the others are found.
    let owner = &cluster.keys().root_token;
    let explain = |args: &str| Command::new(args).arg(&id).to(&at_leader, owner);
    let told = explain("policy explain -format=json").run().expect_code(0).json();
    assert_eq!((&told["path"], &told["operation"], &told["allowed_now"]), (&json!("secret/data/other"), &json!("read"), &json!(false)));
    assert_eq!(told["policies"], json!(["app", "default"]));
    let rule = explain("policy explain -field=smallest_rule").run().expect_code(0).stdout;
    assert!(explain("policy explain").run().expect_code(0).stdout.contains(rule.trim()), "people see it too");
    let told = Command::new("policy explain").arg(&id).to(&at_follower, &token).run().expect_code(2);
    assert!(told.stderr.contains("status 403"), "not for everybody: {told:?}");
    let unknown = root(&cluster, "policy explain 00000000-0000-0000-0000-000000000000").run().expect_code(2);
    assert!(unknown.stderr.contains("no node that was asked knows"), "{unknown:?}");

    // The smallest rule is enough.
    root(&cluster, "policy write app -").stdin(&format!("{policy}\n{rule}")).run().expect_code(0);
    assert_eq!(explain("policy explain -format=json").run().expect_code(0).json()["allowed_now"], true);
    root(&cluster, "kv put secret/other x=1").run().expect_code(0);
    assert_eq!(
        Command::new("read -format=json secret/data/other").to(&at_follower, &token).run().expect_code(0).json()["data"]["data"]["x"],
        "1"
    );

    let can = root(&cluster, "policy who-can -format=json secret/data/other").run().expect_code(0).json()["data"].clone();
    let names = |list: &Value, name: &str| list.as_array().unwrap().iter().map(|item| item[name].clone()).collect::<Vec<_>>();
    assert_eq!(names(&can["policies"], "name"), [json!("app")]);
    let accessor = Command::new("token lookup -field=accessor").to(&at_follower, &token).run().expect_code(0).stdout;
    assert!(names(&can["tokens"], "accessor").contains(&json!(accessor)), "{can}");
    let table = root(&cluster, "policy who-can secret/data/other").run().expect_code(0).stdout;
    assert!(table.contains(&accessor) && !table.contains(&token), "{table}");
    let can = root(&cluster, "policy who-can -capability=delete -format=json secret/data/other").run().expect_code(0).json();
    assert_eq!(can["data"]["policies"], json!([]));
    root(&cluster, "policy who-can -capability=fly secret/data/other").run().expect_code(2);
    root(&cluster, "policy delete app").run().expect_code(0);
    root(&cluster, "policy read app").run().expect_code(2);
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_moves_to_another_mount_with_its_history() {
    let mut cluster = Cluster::builder().nodes(3).open().await;
    root(&cluster, "secrets enable -path=other -version=2 kv").run().expect_code(0);
    for line in ["secret/team/a x=1", "secret/team/a x=2", "secret/team/deep/b y=1"] {
        root(&cluster, &format!("kv put {line}")).run().expect_code(0);
    }
    let moved = root(&cluster, "kv move secret/team/ other/crew/ -format=json").run().expect_code(0).json();
    let names: Vec<&str> = moved["secrets"].as_array().unwrap().iter().filter_map(|secret| secret["to"].as_str()).collect();
    assert_eq!(names, ["other/crew/a", "other/crew/deep/b"]);
    assert_eq!(root(&cluster, "kv get -version=1 -field=x other/crew/a").run().expect_code(0).stdout, "1");
    assert_eq!(root(&cluster, "kv get -field=x other/crew/a").run().expect_code(0).stdout, "2");
    root(&cluster, "kv get secret/team/a").run().expect_code(2);
    root(&cluster, "kv move secret/team/ other/crew/").run().expect_code(2);

    root(&cluster, "kv put secret/a z=1").run().expect_code(0);
    root(&cluster, "kv copy secret/a other/crew/a").run().expect_code(2);
    assert_eq!(root(&cluster, "kv get -field=x other/crew/a").run().expect_code(0).stdout, "2", "nothing was done");
    let copied = root(&cluster, "kv copy -overwrite secret/a other/crew/a").run().expect_code(0);
    assert!(copied.stdout.contains("other/crew/a") && copied.stdout.contains("yes"), "{copied:?}");
    for path in ["secret/a", "other/crew/a"] {
        assert_eq!(root(&cluster, &format!("kv get -field=z {path}")).run().expect_code(0).stdout, "1");
    }
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_at_a_follower_is_all_or_nothing_over_grpc_and_http() {
    let mut cluster = Cluster::builder().nodes(3).open().await;
    cluster.mount("other").await;
    let follower = follower(&mut cluster).await;
    for over_grpc in [true, false] {
        let client = cluster.client_at(follower);
        let commit = async |transaction: client::Transaction<'_>| {
            if over_grpc { transaction.commit_grpc().await } else { transaction.commit().await }
        };
        let path = format!("over-grpc-{over_grpc}");
        let value = |text: &str| fields(json!({ "v": text }));
        let both =
            client.transaction().put("secret", &path, value("1"), Some(0)).put("other", &path, value("1"), Some(0)).get("other", &path);
        match commit(both).await.unwrap_or_else(|error| panic!("{error}")).as_slice() {
            [TransactionResult::Put(first), TransactionResult::Put(second), TransactionResult::Get(None)] => {
                assert_eq!((first.number, second.number), (1, 1));
            }
            other => panic!("{} results of other kinds", other.len()),
        }

        // The condition of the second does not hold: the first does not happen either.
        let half = client.transaction().put("secret", &path, value("2"), Some(1)).put("other", &path, value("2"), Some(0));
        let refused = commit(half).await.err().unwrap();
        assert_eq!((refused.operation, refused.error.status()), (Some(1), Some(400)), "{refused}");
        assert!(refused.error.request_id().is_some_and(|id| id.len() > 30), "{refused:?}");

        let reads = client.transaction().get("secret", &path).get_version("other", &path, 1).list("secret", "").get("secret", "absent");
        match commit(reads).await.unwrap_or_else(|error| panic!("{error}")).as_slice() {
            [
                TransactionResult::Get(Some(first)),
                TransactionResult::Get(Some(second)),
                TransactionResult::List(keys),
                TransactionResult::Get(None),
            ] => {
                assert_eq!((first.version.number, second.version.number), (1, 1));
                assert_eq!(first.data.as_ref().unwrap().expose()["v"], "1");
                assert!(keys.contains(&path), "{keys:?}");
            }
            other => panic!("{} results of other kinds", other.len()),
        }

        let gone = client.transaction().delete("secret", &path).delete_versions("other", &path, &[1]);
        assert_eq!(commit(gone).await.unwrap_or_else(|error| panic!("{error}")).len(), 2);
        let deleted = commit(client.transaction().get("secret", &path).get("other", &path)).await.unwrap_or_else(|error| panic!("{error}"));
        for result in deleted {
            assert!(matches!(result, TransactionResult::Get(Some(secret)) if secret.data.is_none() && secret.version.number == 1));
        }

        // Each part is authorised.
        let nobody = client.with_token(Some(SecretString::from(token(&cluster, "-policy=default"))));
        let denied = commit(nobody.transaction().get("secret", &path)).await.err().unwrap();
        assert_eq!(denied.error.status(), Some(403), "{denied}");
    }

    let operations = json!([
        { "operation": "update", "path": "secret/data/c", "body": { "data": { "v": 1 }, "options": { "cas": 0 } } },
        { "operation": "read", "path": "secret/data/absent" },
    ]);
    let done = root(&cluster, "transaction - -format=json").stdin(&operations.to_string()).run().expect_code(0).json();
    assert_eq!((&done["data"]["results"][0]["status"], &done["data"]["results"][1]["status"]), (&json!(200), &json!(404)));
    let refused = root(&cluster, "transaction -").stdin(&operations.to_string()).run().expect_code(2);
    assert!(refused.stderr.contains("operations[0]: "), "{refused:?}");
    root(&cluster, "transaction -").stdin("{}").run().expect_code(1);
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_chosen_by_flag_or_environment_for_every_way_in() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    root(&cluster, "write -f sys/namespaces/team").run().expect_code(0);
    root(&cluster, "secrets enable -namespace=team -path=secret -version=2 kv").run().expect_code(0);
    root(&cluster, "kv put -namespace=team secret/a x=team").run().expect_code(0);
    root(&cluster, "kv put secret/a x=root").run().expect_code(0);
    for variable in ["CONCLAVE_NAMESPACE", "BAO_NAMESPACE", "VAULT_NAMESPACE"] {
        let read = root(&cluster, "kv get -field=x secret/a").env(variable, "team/").run().expect_code(0);
        assert_eq!(read.stdout, "team", "{variable}");
    }
    let flag = root(&cluster, "kv get -field=x -namespace= secret/a").env("VAULT_NAMESPACE", "team").run().expect_code(0);
    assert_eq!(flag.stdout, "root", "a flag goes before the environment");
    let by_path = root(&cluster, "read -format=json team/secret/data/a").run().expect_code(0).json();
    assert_eq!(by_path["data"]["data"]["x"], "team", "a path may begin with the namespace");
    let client = Client::builder()
        .addresses([cluster.nodes[0].api_address()])
        .token(SecretString::from(cluster.keys().root_token.clone()))
        .namespace("team")
        .build()
        .unwrap();
    for results in [client.transaction().get("secret", "a").commit_grpc().await, client.transaction().get("secret", "a").commit().await] {
        let results = results.unwrap_or_else(|error| panic!("{error}"));
        let [TransactionResult::Get(Some(secret))] = results.as_slice() else { panic!("{} results", results.len()) };
        assert_eq!(secret.data.as_ref().unwrap().expose()["x"], "team");
    }
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_wrapped_renewed_and_revoked_without_being_arguments() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let address = cluster.nodes[0].api_address();
    let made =
        root(&cluster, "token create -policy=default -ttl=1h -display-name=x -metadata team=y -format=json").run().expect_code(0).json();
    assert_eq!((&made["auth"]["metadata"]["team"], &made["auth"]["lease_duration"]), (&json!("y"), &json!(3600)));
    let [token, accessor] = ["client_token", "accessor"].map(|name| made["auth"][name].as_str().unwrap().to_owned());
    let own = |args: &str| Command::new(args).to(&address, &token);
    assert_eq!(own("token lookup -field=accessor").run().expect_code(0).stdout, accessor);
    assert_eq!(root(&cluster, "token lookup -field=accessor -").stdin(&token).run().expect_code(0).stdout, accessor);
    let found = root(&cluster, "token lookup -format=json -accessor").arg(&accessor).run().expect_code(0);
    assert!(!found.stdout.contains(&token), "an accessor does not give the token: {found:?}");
    own("token renew -increment=30m").run().expect_code(0);
    let refused = root(&cluster, "token lookup").arg(&token).run().expect_code(1);
    assert!(!refused.stderr.contains(&token) && refused.stderr.contains("stdin"), "{refused:?}");
    assert!(root(&cluster, "token revoke").run().expect_code(1).stderr.contains("-self"));
    root(&cluster, "token revoke -accessor").arg(&accessor).run().expect_code(0);
    own("token lookup").run().expect_code(2);

    // A wrapped answer, given once.
    root(&cluster, "kv put secret/a x=canary").run().expect_code(0);
    let wrapped = root(&cluster, "kv get -wrap-ttl=5m secret/a").run().expect_code(0);
    assert!(wrapped.stdout.contains("wrapping_token") && !wrapped.stdout.contains("canary"), "{wrapped:?}");
    let wrapping = root(&cluster, "read -field=wrapping_token secret/data/a").env("VAULT_WRAP_TTL", "5m").run().expect_code(0).stdout;
    let unwrapped = Command::new("unwrap - -format=json").to(&address, "").stdin(&wrapping).run().expect_code(0).json();
    assert_eq!(unwrapped["data"]["data"]["x"], "canary");
    Command::new("unwrap -").to(&address, "").stdin(&wrapping).run().expect_code(2);
    root(&cluster, "policy list -wrap-ttl=5m").run().expect_code(1);

    // A user's password gives a token; neither is an argument.
    root(&cluster, "write sys/auth/people type=userpass").run().expect_code(0);
    root(&cluster, "write auth/people/users/ann password=- token_policies=default").stdin("ann-has-a-password").run().expect_code(0);
    let login = |args: &str| Command::new(args).env("CONCLAVE_ADDR", &address);
    let home = cluster.folder().join("ann.token");
    let kept =
        login("login -method=userpass -path=people username=ann").env("CONCLAVE_TOKEN_PATH", &home).stdin("ann-has-a-password").run();
    let kept = kept.expect_code(0);
    let stored = std::fs::read_to_string(&home).unwrap();
    assert!(stored.starts_with("hvs.") && !kept.stdout.contains(&stored), "{kept:?}");
    let name = login("token lookup -field=display_name").env("CONCLAVE_TOKEN_PATH", &home).run().expect_code(0).stdout;
    assert_eq!(name, "people-ann");
    let shown =
        login("login -method=userpass -path=people -no-store -field=token username=ann password=-").stdin("ann-has-a-password").run();
    assert!(shown.expect_code(0).stdout.starts_with("hvs."));
    login("login -method=userpass -path=people -no-store username=ann").stdin("wrong").run().expect_code(2);
    login("login -method=userpass -path=people -no-store username=ann password=canary").run().expect_code(1);
    login("login -method=ldap username=ann").run().expect_code(1);
    cluster.assert_sound();
}
