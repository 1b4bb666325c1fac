# All that a response-wrapping token may do: open what it wraps.
path "cubbyhole/response"  { capabilities = ["create", "read"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
