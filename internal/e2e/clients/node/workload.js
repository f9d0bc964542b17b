// A workload that knows the Workload API's proto file and nothing else of ours: asks who it is, checks what it is told with
// Node's own crypto, waits for the next certificate, and calls the ledger with it. Prints one line of JSON.
//
//   node workload.js WORKLOAD_PROTO_DIR AUDIENCE LEDGER_ADDRESS PROTO_DIR
'use strict';

const crypto = require('crypto');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [workloadProtos, audience, ledgerAddress, protos] = process.argv.slice(2);

const load = (file, dir) => grpc.loadPackageDefinition(loader.loadSync(file, {includeDirs: [dir], keepCase: true, longs: Number}));
const {SpiffeWorkloadAPI} = load('workload.proto', workloadProtos);
const {LedgerService} = load('ledger/v1/ledger.proto', protos).ledger.v1;

const api = new SpiffeWorkloadAPI(process.env.SPIFFE_ENDPOINT_SOCKET.replace('unix://', 'unix:'), grpc.credentials.createInsecure());
const header = () => { const m = new grpc.Metadata(); m.set('workload.spiffe.io', 'true'); return m; };
const deadline = () => ({deadline: Date.now() + 45_000});

const unary = (client, method, request, metadata = new grpc.Metadata()) => new Promise((resolve, reject) => {
  client[method](request, metadata, deadline(), (err, response) => err ? reject(err) : resolve(response));
});

// take reads n messages of a stream.
const take = (n, method, metadata) => new Promise((resolve, reject) => {
  const got = [];
  const stream = api[method]({}, metadata, deadline());
  stream.on('data', (message) => {
    got.push(message);
    if (got.length === n) { resolve(got); stream.cancel(); }
  });
  stream.on('error', reject);
});

const code = (promise) => promise.then(() => 'OK', (err) => grpc.status[err.code]);

// certificates splits DER certificates that stand one after the other: each says how long it is.
const certificates = (der) => {
  const found = [];
  for (let at = 0; at < der.length;) {
    const cert = new crypto.X509Certificate(der.subarray(at));
    found.push(cert);
    at += cert.raw.length;
  }
  return found;
};

// check verifies chain, key and times of an X.509-SVID.
const check = (svid) => {
  const [leaf, ...issuers] = certificates(svid.x509_svid);
  const roots = certificates(svid.bundle);
  const key = crypto.createPrivateKey({key: svid.x509_svid_key, format: 'der', type: 'pkcs8'});
  let chained = true, child = leaf;
  for (const parent of issuers) {
    chained = chained && parent.ca && child.checkIssued(parent) && child.verify(parent.publicKey);
    child = parent;
  }
  const anchored = roots.some((root) => child.checkIssued(root) && child.verify(root.publicKey));
  return {
    serial: leaf.serialNumber, leaf_is_ca: leaf.ca, key_fits: leaf.checkPrivateKey(key), chained, anchored,
    names_id: leaf.subjectAltName.includes('URI:' + svid.spiffe_id), valid: new Date(leaf.validTo) > new Date(),
  };
};

// verifyToken checks the signature of a JWT-SVID with the key of the JWK set that it names.
const verifyToken = (token, jwks) => {
  const [head, payload, signature] = token.split('.');
  const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));
  const {alg, kid} = decode(head);
  const jwk = JSON.parse(jwks).keys.find((key) => key.kid === kid);
  const key = crypto.createPublicKey({key: jwk, format: 'jwk'});
  const good = crypto.verify('sha256', Buffer.from(head + '.' + payload), {key, dsaEncoding: 'ieee-p1363'}, Buffer.from(signature, 'base64url'));
  return {alg, good, subject: decode(payload).sub, audience: [].concat(decode(payload).aud)};
};

const pem = (cert) => cert.toString();

async function main() {
  const [first, second] = await take(2, 'FetchX509SVID', header()); // the second when the certificate was renewed
  const svid = second.svids[0];
  const td = svid.spiffe_id.split('/').slice(0, 3).join('/');
  const [bundles] = await take(1, 'FetchX509Bundles', header());
  const [jwtBundles] = await take(1, 'FetchJWTBundles', header());
  const token = (await unary(api, 'FetchJWTSVID', {audience: [audience]}, header())).svids[0].svid;
  const validated = await unary(api, 'ValidateJWTSVID', {audience, svid: token}, header());

  const chain = certificates(svid.x509_svid).map(pem).join('');
  const key = crypto.createPrivateKey({key: svid.x509_svid_key, format: 'der', type: 'pkcs8'}).export({format: 'pem', type: 'pkcs8'});
  const ledger = new LedgerService(ledgerAddress, grpc.credentials.createSsl(
      Buffer.from(certificates(svid.bundle).map(pem).join('')), Buffer.from(key), Buffer.from(chain)));
  const refused = await code(unary(ledger, 'GetBalance', {account_id: 'x'}));
  ledger.close();

  return {
    spiffe_id: svid.spiffe_id, first: check(first.svids[0]), second: check(svid),
    same_bundle: Buffer.compare(bundles.bundles[td], svid.bundle) === 0,
    token: verifyToken(token, jwtBundles.bundles[td]), validated: validated.spiffe_id,
    ledger_says: refused,
    without_header: await code(take(1, 'FetchX509SVID', new grpc.Metadata())),
    other_audience: await code(unary(api, 'ValidateJWTSVID', {audience: 'other', svid: token}, header())),
  };
}

main().catch((err) => ({error: grpc.status[err.code] || String(err), message: err.details || err.stack}))
    .then((result) => { console.log(JSON.stringify(result)); api.close(); });
