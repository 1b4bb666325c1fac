# What every token may do with itself. It can be changed; what is not wanted, can be left out of a token (no_default_policy).

# Look at itself, renew and revoke itself, ask what it may do.
path "auth/token/lookup-self"         { capabilities = ["read"] }
path "auth/token/renew-self"          { capabilities = ["update"] }
path "auth/token/revoke-self"         { capabilities = ["update"] }
path "sys/capabilities-self"          { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl"  { capabilities = ["read"] }

# Look at and renew a lease whose id it knows.
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/renew"         { capabilities = ["update"] }

# Its own cubbyhole, which no other token sees.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }

# Wrap a value of its own; look at and open a wrapped one whose token it holds.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }

# Hash and HMAC without a key.
path "sys/tools/hash"   { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }

# Read its own entity, and ask a provider of OpenID Connect for a login, where there are such.
path "identity/entity/id/{{identity.entity.id}}"     { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }
path "identity/oidc/provider/+/authorize"            { capabilities = ["read", "update"] }
