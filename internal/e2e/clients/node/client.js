// Calls the ledger over mutual TLS: unary, signed, server stream and client stream. Prints one line of JSON.
//
//   node client.js ADDRESS BUNDLE CERT KEY PROTO_DIR
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, bundle, cert, key, protos] = process.argv.slice(2);

const definition = loader.loadSync('ledger/v1/ledger.proto', {includeDirs: [protos], keepCase: true, longs: Number});
const {LedgerService} = grpc.loadPackageDefinition(definition).ledger.v1;
const client = new LedgerService(
    address,
    grpc.credentials.createSsl(fs.readFileSync(bundle), fs.readFileSync(key), fs.readFileSync(cert)));

const deadline = () => ({deadline: Date.now() + 30_000});

const unary = (method, request) => new Promise((resolve, reject) => {
  client[method](request, new grpc.Metadata(), deadline(), (err, response) => err ? reject(err) : resolve(response));
});

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('base64url');

// proof signs a request, as docs/proofs.md says.
function proof(path, bytes) {
  const own = crypto.createPrivateKey(fs.readFileSync(key));
  const {crv, kty, x, y} = crypto.createPublicKey(own).export({format: 'jwk'});
  const id = /URI:(spiffe:\/\/[^,]+)/.exec(new crypto.X509Certificate(fs.readFileSync(cert)).subjectAltName)[1];
  const now = Math.floor(Date.now() / 1000);
  const header = {alg: 'ES256', typ: 'rolecall-proof+jwt', kid: sha256(JSON.stringify({crv, kty, x, y}))}; // RFC 7638
  const claims = {
    iss: id, aud: `spiffe://${new URL(id).host}/service/ledger`, mth: path, bth: sha256(bytes),
    jti: crypto.randomBytes(16).toString('base64url'), iat: now, exp: now + 30,
  };
  const input = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${input}.${crypto.sign('sha256', Buffer.from(input), {key: own, dsaEncoding: 'ieee-p1363'}).toString('base64url')}`;
}

// signed makes a unary call with a proof over the very bytes that are sent.
const signed = (method, request) => new Promise((resolve, reject) => {
  const {path, requestSerialize, responseDeserialize} = LedgerService.service[method];
  const bytes = requestSerialize(request);
  const metadata = new grpc.Metadata();
  metadata.set('rolecall-proof', proof(path, bytes));
  let answer;
  client.makeUnaryRequest(path, (raw) => raw, responseDeserialize, bytes, metadata, deadline(), (err, response) => {
    if (err) reject(err);
    answer = response;
  }).on('status', (status) => {
    if (status.code !== grpc.status.OK) return;
    if (status.metadata.get('rolecall-receipt').length !== 1) reject(new Error('an answer without a receipt'));
    resolve(answer);
  });
});

const first = (method, request) => new Promise((resolve, reject) => {
  const stream = client[method](request, new grpc.Metadata(), deadline());
  stream.on('data', (response) => { resolve(response); stream.cancel(); });
  stream.on('error', reject);
});

const upload = (method, requests) => new Promise((resolve, reject) => {
  const stream = client[method](new grpc.Metadata(), deadline(), (err, response) => err ? reject(err) : resolve(response));
  requests.forEach((request) => stream.write(request));
  stream.end();
});

async function main() {
  const money = (units) => ({currency: 'EUR', minor_units: units});
  const from = (await unary('OpenAccount', {currency: 'EUR', allow_negative: true, request_id: crypto.randomUUID()})).account.account_id;
  const to = (await unary('OpenAccount', {currency: 'EUR', request_id: crypto.randomUUID()})).account.account_id;
  await signed('Transfer', {from_account: from, to_account: to, amount: money(1250), note: 'from Node', request_id: crypto.randomUUID()});
  const watched = await first('WatchEntries', {account_id: to});
  const {imported} = await upload('ImportEntries', [
    {from_account: from, to_account: to, amount: money(1)},
    {from_account: from, to_account: to, amount: money(2)},
  ]);
  const {balance} = await unary('GetBalance', {account_id: to});
  return {watched: watched.entry.amount.minor_units, imported, balance: balance.minor_units};
}

main().catch((err) => ({code: grpc.status[err.code] || 'NO_STATUS', message: err.details || String(err)}))
    .then((result) => { console.log(JSON.stringify(result)); client.close(); });
