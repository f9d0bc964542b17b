// Calls the ledger over mutual TLS: unary, server stream and client stream. Prints one line of JSON.
//
//   node client.js ADDRESS BUNDLE CERT KEY PROTO_DIR
'use strict';

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
  const from = (await unary('OpenAccount', {currency: 'EUR', allow_negative: true})).account.account_id;
  const to = (await unary('OpenAccount', {currency: 'EUR'})).account.account_id;
  await unary('Transfer', {from_account: from, to_account: to, amount: money(1250), note: 'from Node'});
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
