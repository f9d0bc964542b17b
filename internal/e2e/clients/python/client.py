"""Calls the ledger over mutual TLS: unary, server stream and client stream. Prints one line of JSON.

    python3 client.py ADDRESS BUNDLE CERT KEY STUBS

STUBS is the folder that protoc --python_out wrote.
"""
import json
import sys
import uuid

import grpc

address, bundle, cert, key, stubs = sys.argv[1:]
sys.path.insert(0, stubs)

from ledger.v1 import ledger_pb2 as pb  # noqa: E402 (needs the path above)

SERVICE = "/ledger.v1.LedgerService/"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def call(channel, kind, method, request, timeout=30):
    """Calls a method whose messages are named after it, as all of ours are."""
    return getattr(channel, kind)(
        SERVICE + method,
        request_serializer=getattr(pb, method + "Request").SerializeToString,
        response_deserializer=getattr(pb, method + "Response").FromString,
    )(request, timeout=timeout)


def run(channel):
    def money(units):
        return pb.Money(currency="EUR", minor_units=units)

    def open_account(**fields):
        request = pb.OpenAccountRequest(currency="EUR", request_id=str(uuid.uuid4()), **fields)
        return call(channel, "unary_unary", "OpenAccount", request).account.account_id

    payer = open_account(allow_negative=True)
    payee = open_account()
    book = pb.ImportEntriesRequest(from_account=payer, to_account=payee, amount=money(1250), note="from Python")
    call(channel, "stream_unary", "ImportEntries", iter([book]))
    watch = call(channel, "unary_stream", "WatchEntries", pb.WatchEntriesRequest(account_id=payee))
    watched = next(watch)
    watch.cancel()
    books = [pb.ImportEntriesRequest(from_account=payer, to_account=payee, amount=money(n)) for n in (1, 2)]
    imported = call(channel, "stream_unary", "ImportEntries", iter(books)).imported
    balance = call(channel, "unary_unary", "GetBalance", pb.GetBalanceRequest(account_id=payee)).balance
    return {"watched": watched.entry.amount.minor_units, "imported": imported, "balance": balance.minor_units}


credentials = grpc.ssl_channel_credentials(read(bundle), read(key), read(cert))
with grpc.secure_channel(address, credentials) as channel:
    try:
        result = run(channel)
    except grpc.RpcError as error:
        result = {"code": error.code().name, "message": error.details()}
    print(json.dumps(result))
