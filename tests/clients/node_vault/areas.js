// node-vault drives one area of the API: run by tests/acceptance/area/mod.rs.
//
// Usage: node areas.js AREA < {"addresses": [...], "token": a root token, "folder": a path that the server can write to}
//
// The server is open. Everything is done at mounts and names that begin with `nv`. Prints a line a check, then
// "N passed, N failed"; ends with 1 if one has failed. Neighbouring checks ask different nodes. All of it holds of OpenBao 2.7.2, too.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const vault = require('node-vault');

class World {
  constructor({ addresses, token, folder }) {
    Object.assign(this, { addresses, token, folder, turn: 0, passed: 0, failed: 0 });
  }

  // The next node, as root unless another token is given; '' is none.
  client(token = this.token, namespace = '') {
    const client = vault({ endpoint: this.addresses[this.turn++ % this.addresses.length], namespace });
    client.token = token;
    return client;
  }

  // `ask` must answer with `want`; what it answered is returned.
  async equal(name, ask, want) {
    return this.check(name, async () => {
      const found = await ask();
      assert.deepEqual(found, want);
      return found;
    });
  }

  // `ask` must be refused with this status, and this text in its message.
  async refused(name, ask, status, text = '') {
    return this.check(name, async () => {
      const found = await ask().then(
        (answer) => assert.fail(`answered with ${JSON.stringify(answer)}`),
        (error) => error,
      );
      assert.equal(found.response?.statusCode, status, String(found));
      assert.ok(String(found.message).includes(text), `${found.message} does not say ${text}`);
    });
  }

  async check(name, check) {
    try {
      const result = await check();
      this.passed += 1;
      console.log(`ok      ${name}`);
      return result;
    } catch (error) {
      this.failed += 1;
      console.log(`FAILED  ${name}: ${error.stack}`);
      return undefined;
    }
  }

  finish(least) {
    if (this.passed + this.failed < least) {
      this.failed += 1;
      console.log(`FAILED  there are ${least} checks or more`);
    }
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.failed ? 1 : 0;
  }
}

// OpenBao answers 400 for a moment after a KV v2 mount.
async function ready(ask) {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      if (!String(error.message).includes('Upgrading from non-versioned')) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return ask();
}

// Asks until the answer is `want`, or time is up.
async function eventually(ask, want) {
  for (let tries = 0; tries < 100; tries += 1) {
    if ((await ask()) === want) return want;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return ask();
}

const alive = (world, token) =>
  world.client(token).tokenLookupSelf().then(
    () => true,
    () => false,
  );

const areas = {
  async kv(world) {
    const body = { type: 'kv', options: { version: '2' } };
    await world.equal('mount', () => world.client().mount({ mount_point: 'nv-kv', ...body }), '');
    await world.equal('write', async () => (await ready(() => world.client().write('nv-kv/data/a', { data: { x: '1' } }))).data.version, 1);
    await world.equal('read', async () => (await world.client().read('nv-kv/data/a')).data.data, { x: '1' });
    await world.equal('update', async () => (await world.client().update('nv-kv/data/a', { data: { y: 2 } })).data.version, 2);
    await world.equal('what is updated', async () => (await world.client().read('nv-kv/data/a')).data.data, { x: '1', y: 2 });
    await world.equal('an old version', async () => (await world.client().read('nv-kv/data/a?version=1')).data.data, { x: '1' });
    await world.refused('cas', () => world.client().write('nv-kv/data/a', { data: {}, options: { cas: 1 } }), 400, 'check-and-set');
    await world.equal('list', async () => (await world.client().list('nv-kv/metadata')).data.keys, ['a']);
    const byGet = async () => {
      const client = world.client();
      client.noCustomHTTPVerbs = true;
      return (await client.list('nv-kv/metadata')).data.keys;
    };
    await world.equal('list by GET', byGet, ['a']);
    await world.equal('delete', () => world.client().delete('nv-kv/data/a'), '');
    await world.refused('read of what is deleted', () => world.client().read('nv-kv/data/a'), 404);
    await world.equal('destroySecretVersions', () => world.client().destroySecretVersions({ mount_point: 'nv-kv', path: 'a', versions: [1] }), '');
    await world.equal('destroyed', async () => (await world.client().read('nv-kv/metadata/a')).data.versions['1'].destroyed, true);
    await world.refused('list of nothing', () => world.client().list('nv-kv/metadata/none'), 404);
  },

  async kv_v1(world) {
    await world.equal('mount', () => world.client().mount({ mount_point: 'nv-kv1', type: 'kv', options: { version: '1' } }), '');
    await world.equal('write', () => world.client().write('nv-kv1/a', { x: '1' }), '');
    await world.equal('read', async () => (await world.client().read('nv-kv1/a')).data, { x: '1' });
    await world.equal('list', async () => (await world.client().list('nv-kv1')).data.keys, ['a']);
    await world.equal('delete', () => world.client().delete('nv-kv1/a'), '');
    await world.refused('read of nothing', () => world.client().read('nv-kv1/a'), 404);
  },

  async tokens(world) {
    const made = await world.check('tokenCreate', async () => (await world.client().tokenCreate({ policies: ['default'], ttl: '1h' })).auth);
    const { client_token: child, accessor } = made ?? {};
    await world.equal('tokenLookup', async () => (await world.client().tokenLookup({ token: child })).data.creation_ttl, 3600);
    await world.equal('tokenLookupSelf', async () => (await world.client(child).tokenLookupSelf()).data.accessor, accessor);
    await world.equal('tokenLookupAccessor', async () => (await world.client().tokenLookupAccessor({ accessor })).data.policies, ['default']);
    await world.equal('tokenAccessors', async () => (await world.client().tokenAccessors()).data.keys.includes(accessor), true);
    await world.equal('tokenRenew', async () => (await world.client().tokenRenew({ token: child, increment: '30m' })).auth.lease_duration, 1800);
    await world.equal('tokenRenewSelf', async () => (await world.client(child).tokenRenewSelf({ increment: '20m' })).auth.lease_duration, 1200);
    await world.equal('tokenRevokeAccessor', () => world.client().tokenRevokeAccessor({ accessor }), '');
    await world.refused('it is dead', () => world.client(child).tokenLookupSelf(), 403);
    await world.equal('tokenCreateOrphan', async () => (await world.client().tokenCreateOrphan({ policies: ['default'], ttl: '1h' })).auth.orphan, true);
    await world.equal('addTokenRole', () => world.client().addTokenRole({ role_name: 'nv', allowed_policies: 'default' }), '');
    await world.equal('getTokenRole', async () => (await world.client().getTokenRole({ role_name: 'nv' })).data.allowed_policies, ['default']);
    await world.equal('tokenRoles', async () => (await world.client().tokenRoles()).data.keys.includes('nv'), true);
    await world.equal('tokenCreateRole', async () => (await world.client().tokenCreateRole({ role_name: 'nv', ttl: '10m' })).auth.lease_duration, 600);
    await world.equal('removeTokenRole', () => world.client().removeTokenRole({ role_name: 'nv' }), '');
    const self = await world.check('another', async () => (await world.client().tokenCreate({ policies: ['default'], ttl: '1h' })).auth.client_token);
    await world.equal('tokenRevokeSelf', () => world.client(self).tokenRevokeSelf(), '');
    await world.equal('it is dead too', () => alive(world, self), false);
    const third = await world.check('a third', async () => (await world.client().tokenCreate({ policies: ['default'], ttl: '1h' })).auth.client_token);
    await world.equal('tokenRevoke', () => world.client().tokenRevoke({ token: third }), '');
    await world.equal('also dead', () => alive(world, third), false);
  },

  async policies(world) {
    const rules = 'path "nv/*" { capabilities = ["read"] }\n';
    await world.equal('addPolicy', () => world.client().addPolicy({ name: 'nv', rules, policy: rules }), '');
    await world.equal('getPolicy', async () => (await world.client().getPolicy({ name: 'nv' })).rules, rules);
    await world.equal('policies', async () => (await world.client().policies()).policies.includes('nv'), true);
    await world.refused('a policy that is none', () => world.client().addPolicy({ name: 'nv2', policy: 'path {' }), 400);
    await world.equal('removePolicy', () => world.client().removePolicy({ name: 'nv' }), '');
    await world.refused('it is gone', () => world.client().getPolicy({ name: 'nv' }), 404);
  },

  async mounts(world) {
    await world.equal('mount', () => world.client().mount({ mount_point: 'nv-m', type: 'kv', description: 'd' }), '');
    await world.equal('mounts', async () => (await world.client().mounts())['nv-m/'].description, 'd');
    await world.check('remount', () => world.client().remount({ from: 'nv-m', to: 'nv-n' }));
    await world.equal('it has moved', () => eventually(async () => 'nv-n/' in (await world.client().mounts()).data, true), true);
    await world.equal('unmount', () => world.client().unmount({ mount_point: 'nv-n' }), '');
    await world.equal('it is not listed', async () => 'nv-n/' in (await world.client().mounts()).data, false);
  },

  async auth(world) {
    await world.equal('enableAuth', () => world.client().enableAuth({ mount_point: 'nv-up', type: 'userpass' }), '');
    await world.equal('auths', async () => (await world.client().auths())['nv-up/'].type, 'userpass');
    await world.equal('a user', () => world.client().write('auth/nv-up/users/bob', { password: 'builder-1', policies: 'a' }), '');
    const login = (password) => world.client('').userpassLogin({ mount_point: 'nv-up', username: 'bob', password });
    await world.equal('userpassLogin', async () => (await login('builder-1')).auth.policies, ['a', 'default']);
    await world.refused('a wrong password', () => login('wrong'), 400, 'invalid username or password');
    const session = async () => {
      const client = world.client('');
      await client.userpassLogin({ mount_point: 'nv-up', username: 'bob', password: 'builder-1' });
      return (await client.tokenLookupSelf()).data.meta;
    };
    await world.equal('a login sets the token', session, { username: 'bob' });
    const at = { mount_point: 'nv-ar', role_name: 'app' };
    await world.equal('enable approle', () => world.client().enableAuth({ mount_point: 'nv-ar', type: 'approle' }), '');
    await world.equal('addApproleRole', () => world.client().addApproleRole({ ...at, policies: 'a', token_ttl: 600 }), '');
    await world.equal('getApproleRole', async () => (await world.client().getApproleRole(at)).data.token_ttl, 600);
    await world.equal('approleRoles', async () => (await world.client().approleRoles({ mount_point: 'nv-ar' })).data.keys, ['app']);
    const role = await world.check('getApproleRoleId', async () => (await world.client().getApproleRoleId(at)).data.role_id);
    const secret = (await world.check('getApproleRoleSecret', async () => (await world.client().getApproleRoleSecret(at)).data)) ?? {};
    const approle = () => world.client('').approleLogin({ mount_point: 'nv-ar', role_id: role, secret_id: secret.secret_id });
    await world.equal('approleLogin', async () => (await approle()).auth.lease_duration, 600);
    await world.equal('approleSecretLookup', async () => (await world.client().approleSecretLookup({ ...at, secret_id: secret.secret_id })).data.secret_id_accessor, secret.secret_id_accessor);
    await world.equal('approleSecretAccessors', async () => (await world.client().approleSecretAccessors(at)).data.keys, [secret.secret_id_accessor]);
    await world.equal('approleSecretAccessorDestroy', () => world.client().approleSecretAccessorDestroy({ ...at, secret_id_accessor: secret.secret_id_accessor }), '');
    await world.refused('it logs in no more', approle, 400);
    await world.equal('deleteApproleRole', () => world.client().deleteApproleRole(at), '');
    await world.equal('disableAuth', () => world.client().disableAuth({ mount_point: 'nv-up' }), '');
    await world.equal('disable approle', () => world.client().disableAuth({ mount_point: 'nv-ar' }), '');
  },

  async wrapping(world) {
    const wrap = async () => (await world.client().write('sys/wrapping/wrap', { a: '1' }, { headers: { 'X-Vault-Wrap-TTL': '120' } })).wrap_info;
    const info = (await world.check('wrap', wrap)) ?? {};
    await world.equal('its lifetime', () => Promise.resolve(info.ttl), 120);
    await world.equal('unwrap', async () => (await world.client().unwrap({ token: info.token })).data, { a: '1' });
    await world.refused('once only', () => world.client().unwrap({ token: info.token }), 400);
    const own = async () => (await world.client((await wrap()).token).unwrap()).data;
    await world.equal('unwrap as oneself', own, { a: '1' });
  },

  async leases(world) {
    await world.equal('a method', () => world.client().enableAuth({ mount_point: 'nv-le', type: 'userpass' }), '');
    await world.equal('a user', () => world.client().write('auth/nv-le/users/bob', { password: 'builder-1' }), '');
    const login = async () => (await world.client('').userpassLogin({ mount_point: 'nv-le', username: 'bob', password: 'builder-1' })).auth.client_token;
    const token = await world.check('a login', login);
    const lease = await world.check('its lease', async () => (await world.client().list('sys/leases/lookup/auth/nv-le/login/bob')).data.keys[0]);
    await world.equal('revoke', () => world.client().revoke({ lease_id: `auth/nv-le/login/bob/${lease}` }), '');
    await world.equal('the token is dead', () => eventually(() => alive(world, token), false), false);
    await world.equal('disableAuth', () => world.client().disableAuth({ mount_point: 'nv-le' }), '');
  },

  async namespaces(world) {
    await world.equal('create', async () => (await world.client().write('sys/namespaces/nv', {})).data.path, 'nv/');
    await world.equal('an engine there', () => world.client(undefined, 'nv').mount({ mount_point: 'kv', type: 'kv' }), '');
    await world.equal('write there', () => world.client(undefined, 'nv').write('kv/a', { x: '1' }), '');
    await world.equal('read there', async () => (await world.client(undefined, 'nv').read('kv/a')).data, { x: '1' });
    await world.equal('read by path', async () => (await world.client().read('nv/kv/a')).data, { x: '1' });
    await world.refused('not from a root path', () => world.client().read('kv/a'), 404);
  },

  async audit(world) {
    await world.equal('enableAudit', () => world.client().enableAudit({ name: 'nv', type: 'file', options: { file_path: `${world.folder}/nv.log` } }), '');
    await world.equal('audits', async () => (await world.client().audits())['nv/'].type, 'file');
    await world.equal('disableAudit', () => world.client().disableAudit({ name: 'nv' }), '');
  },

  async sys(world) {
    await world.equal('initialized', async () => (await world.client('').initialized()).initialized, true);
    await world.equal('status', async () => (await world.client('').status()).sealed, false);
    await world.equal('health', async () => (await world.client('').health()).initialized, true);
    await world.equal('leader', async () => 'ha_enabled' in (await world.client('').leader()), true);
    await world.refused('no such path', () => world.client().read('sys/nosuch'), 404);
  },

  async keys(world) {
    await world.equal('rotate', () => world.client().rotate(), '');
    await world.equal('generateRootInit', async () => (await world.client().generateRootInit()).started, true);
    await world.equal('generateRootCancel', () => world.client().generateRootCancel(), '');
  },

  async path_help(world) {
    await world.equal('help', async () => typeof (await world.client().help('secret/data/a')).help, 'string');
  },
};

const least = { kv: 14, kv_v1: 6, tokens: 21, policies: 6, mounts: 6, auth: 20, wrapping: 5, leases: 7, namespaces: 6, audit: 3, sys: 5, keys: 3, path_help: 1 };

async function main() {
  const [name] = process.argv.slice(2);
  const world = new World(JSON.parse(fs.readFileSync(0, 'utf8')));
  await areas[name](world);
  world.finish(least[name]);
}

main();
