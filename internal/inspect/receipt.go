package inspect

import "strings"

func inspectReceipt(t *compact, opts Options) *object {
	o := newObject("receipt (a signed answer)")
	t.checkHeader(o, receiptType)
	t.workload(o, "signed by", "iss")
	t.workload(o, "for the signer", "aud")
	method := text(t.claims, "mth")
	o.field("method", "%s", method)
	if !strings.HasPrefix(method, "/") || strings.Count(method, "/") != 2 {
		o.problem("mth is not a method, /package.Service/Method: it is worth nothing")
	}
	proof := text(t.claims, "prf")
	o.field("answers", "the proof with the nonce %s", proof)
	if proof == "" {
		o.problem("it does not say which proof it answers (prf): it is worth nothing")
	}
	t.checkBody(o, "response", opts.Body)
	if issued, ok := seconds(t.claims, "iat"); ok {
		o.field("signed", "%s; a receipt has no end", when(issued, opts.Now))
		if issued.After(opts.Now.Add(leeway)) {
			o.problem("it was made in the future: compare the clocks")
		}
	} else {
		o.problem("it does not say when it was made (iat): it is worth nothing")
	}
	o.field("key", "%s", text(t.header, "kid"))
	t.checkSignature(o, opts)
	o.unverified("that it answers your request: compare the nonce with the one in your proof")
	return o
}
