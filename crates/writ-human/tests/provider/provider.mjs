// A small OpenID provider around the npm package `oidc-provider`, for tests: both login flows, rotation, revocation,
// JWT access tokens for resources. Beside it, below /test, what a test needs: signing with the provider's own keys,
// answers of its making in place of real ones, counters, and a transmitter's queue to poll.
//
// usage: node provider.mjs NODE_MODULES [CERT KEY]; says `{"port":N}` on standard output when it listens.
import { createServer as plain } from 'node:http';
import { createServer as tls } from 'node:https';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// Nobody reads standard output after the first line.
console.log = console.info = console.warn = () => {};

const [modules, cert, key] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(modules, path)).href);
const { default: Provider } = await load('oidc-provider/lib/index.js');
const jose = await load('jose/dist/webapi/index.js');

// Whoever started this is gone: so is this.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

const algorithms = ['RS256', 'RS384', 'PS256', 'PS512', 'ES256', 'ES384', 'Ed25519'];
const keys = {};
for (const alg of algorithms) {
  const pair = await jose.generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  keys[alg] = { ...(await jose.exportJWK(pair.privateKey)), kid: `key-${alg}`, alg, use: 'sig' };
}
// A key that is not among those published until a test says so.
const spare = await jose.generateKeyPair('RS256', { extractable: true, modulusLength: 2048 });
keys.spare = { ...(await jose.exportJWK(spare.privateKey)), kid: 'key-spare', alg: 'RS256', use: 'sig' };

const accounts = {
  alice: { name: 'Alice Example', email: 'alice@example.com', groups: ['engineering', 'all staff'] },
  bob: { name: 'Bob Example', email: 'bob@example.com', groups: ['all staff'] },
};

const server = cert ? tls({ cert: readFileSync(cert), key: readFileSync(key) }) : plain();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const { port } = server.address();
const issuer = `${cert ? 'https' : 'http'}://127.0.0.1:${port}`;

const loopback = ['http://127.0.0.1/callback', 'http://[::1]/callback'];
const grants = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'];
const native = { application_type: 'native', redirect_uris: loopback, grant_types: grants };
const lives = { access: 3600, id: 36000, device: 600 };

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'writ', token_endpoint_auth_method: 'none', ...native },
    { client_id: 'writ:secret', client_secret: 'a secret & more', ...native },
    { client_id: 'writ-es', token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'ES256', ...native },
    { client_id: 'app', token_endpoint_auth_method: 'none', ...native },
  ],
  jwks: { keys: algorithms.map((alg) => keys[alg]) },
  cookies: { keys: ['only for tests'] },
  claims: { openid: ['sub'], profile: ['name'], email: ['email'], groups: ['groups'] },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'groups', 'api:read'],
  conformIdTokenClaims: false,
  findAccount: (_, sub) => accounts[sub] && { accountId: sub, claims: () => ({ sub, ...accounts[sub] }) },
  enabledJWA: {
    idTokenSigningAlgValues: algorithms,
  },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    userinfo: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'api:read',
        audience: resource,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: () => lives.access,
    IdToken: () => lives.id,
    DeviceCode: () => lives.device,
    AuthorizationCode: 600, RefreshToken: 864000, Grant: 864000, Interaction: 3600, Session: 864000,
  },
});

const counts = {};
const faults = [];
const queue = { sets: {}, acks: [], errors: {}, asked: [] };
let published;

const taken = (path) => {
  const found = faults.findIndex((fault) => fault.path === path);
  if (found < 0) return undefined;
  const fault = faults[found];
  if (fault.times !== undefined && --fault.times <= 0) faults.splice(found, 1);
  return fault;
};

provider.use(async (ctx, next) => {
  const fault = taken(ctx.path);
  if (fault?.status) {
    ctx.status = fault.status;
    ctx.body = fault.body;
    if (fault.location) ctx.set('location', fault.location);
    return;
  }
  await next();
  if (fault?.merge) ctx.body = { ...ctx.body, ...fault.merge };
  for (const name of fault?.without ?? []) delete ctx.body[name];
});

const content = async (request) => {
  let text = '';
  for await (const part of request) text += part;
  return text ? JSON.parse(text) : {};
};

const test = {
  '/test/sign': async ({ key = 'RS256', header, claims }) => {
    const jwk = keys[key];
    const imported = await jose.importJWK(jwk, jwk.alg);
    const signer = new jose.CompactSign(new TextEncoder().encode(JSON.stringify(claims)));
    return { token: await signer.setProtectedHeader({ alg: jwk.alg, kid: jwk.kid, ...header }).sign(imported) };
  },
  '/test/fault': (fault) => { faults.push(fault); return {}; },
  '/test/mend': () => { faults.length = 0; return {}; },
  '/test/count': ({ path }) => ({ count: counts[path] ?? 0 }),
  '/test/lives': (wanted) => Object.assign(lives, wanted),
  '/test/account': ({ name, ...claims }) => Object.assign(accounts[name], claims),
  '/test/publish': ({ key }) => {
    const { d, p, q, dp, dq, qi, ...open } = keys[key];
    published = { keys: [open] };
    return {};
  },
  '/test/queue': ({ sets }) => { Object.assign(queue.sets, sets); return {}; },
  '/test/queued': () => queue,
  '/test/poll': (asked, request) => {
    queue.asked.push(request.headers.authorization ?? null);
    for (const id of asked.ack ?? []) { queue.acks.push(id); delete queue.sets[id]; }
    for (const id of Object.keys(asked.setErrs ?? {})) { queue.errors[id] = asked.setErrs[id]; delete queue.sets[id]; }
    return { sets: queue.sets, moreAvailable: false };
  },
};

const serve = provider.callback();
server.on('request', async (request, response) => {
  const [path] = request.url.split('?');
  counts[path] = (counts[path] ?? 0) + 1;
  try {
    if (path === '/jwks' && published) {
      response.setHeader('content-type', 'application/jwk-set+json');
      response.end(JSON.stringify(published));
    } else if (test[path]) {
      const answer = await test[path](await content(request), request);
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer));
    } else {
      serve(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error.stack));
  }
});
process.stdout.write(`${JSON.stringify({ port })}\n`);
