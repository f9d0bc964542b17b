package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/cli"
)

// callFlags say what is called, as whom, and with what.
type callFlags struct {
	dir                   *string
	as, cert, key, bundle string
	server, keys          string
	data, headers, signed []string
	user                  bool
	session, tokens       string
	tokenFile             string
	roles                 []string
	sign                  bool
	via                   string
	timeout               time.Duration
}

func (f *callFlags) add(c *cobra.Command) {
	flags := c.Flags()
	f.dir = dirFlag(c)
	flags.StringArrayVarP(&f.data, "data", "d", nil, `request in JSON, or "@FILE", or "-" for standard input; for a stream, one after the other, or once for each (default: an empty request)`)
	flags.StringVar(&f.as, "as", "", "operator of the mesh in --dir to call as (default: that of the session with --user, else alice)")
	flags.StringVar(&f.cert, "cert", "", "PEM file with the certificate chain to call with")
	flags.StringVar(&f.key, "key", "", "PEM file with its key")
	flags.StringVar(&f.bundle, "bundle", "", "PEM file with the roots to trust")
	flags.StringVar(&f.server, "server", "", "name of a server in the mesh, or TARGET,SPIFFE-ID of any (default: the one that the service belongs to)")
	flags.StringVar(&f.keys, "keys", "", "TARGET,SPIFFE-ID of the service keys, where no 'rolecall up' runs")
	flags.BoolVar(&f.user, "user", false, "call on behalf of the user of 'rolecall login'")
	flags.StringVar(&f.session, "session", "", "file of that session, if 'rolecall login' was given one")
	flags.StringVar(&f.tokens, "tokens", "", "TARGET,SPIFFE-ID of the service tokens, if 'rolecall login' was given one")
	flags.StringVar(&f.tokenFile, "token-file", "", "call on behalf of the user whose access token this file holds")
	flags.StringArrayVar(&f.roles, "role-subset", nil, `use this role and give up all others for the call; once for each ("": all are given up)`)
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "metadata to send along, KEY=VALUE; once for each")
	flags.BoolVar(&f.sign, "sign", false, "print the request signed, for somebody else to pass on within a minute, instead of calling")
	flags.StringVar(&f.via, "via", "", "with --sign: who alone may pass it on, the name of a service in the mesh or a SPIFFE ID (default: whoever holds the role)")
	flags.StringArrayVar(&f.signed, "signed", nil, `FIELD=JSON, FIELD=@FILE or FIELD=-: put what --sign printed into this field of the request`)
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "how long to wait for all of it (a stream of answers: default no end)")
	c.MarkFlagsRequiredTogether("cert", "key", "bundle")
	c.MarkFlagsMutuallyExclusive("cert", "as")
	c.MarkFlagsMutuallyExclusive("user", "token-file")
	c.MarkFlagsMutuallyExclusive("sign", "user")
	c.MarkFlagsMutuallyExclusive("sign", "token-file")
	c.MarkFlagsMutuallyExclusive("sign", "header")
}

// check refuses what can be seen to be wrong before anything is done.
func (f *callFlags) check() error {
	if f.timeout <= 0 {
		return cli.Usagef("--timeout %s: a time above 0 is needed", f.timeout)
	}
	if !f.user && (f.session != "" || f.tokens != "") {
		return cli.Usagef("--session and --tokens are about the session of a user: give --user too")
	}
	if f.via != "" && !f.sign {
		return cli.Usagef("--via is about who passes a signed request on: give --sign too")
	}
	stdin := 0
	for _, value := range f.data {
		stdin += count(value == "-")
	}
	for _, value := range f.signed {
		stdin += count(strings.HasSuffix(value, "=-"))
	}
	if stdin+count(f.tokenFile == "-") > 1 {
		return cli.Usagef(`"-" stands for standard input, which can be read once: give it once`)
	}
	for _, role := range f.roles {
		if strings.ContainsAny(role, " ,") {
			return cli.Usagef("--role-subset %q: one role; give the flag once for each", role)
		}
	}
	_, err := f.metadata()
	return err
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// metadata reads the headers. What a flag of its own sends, or gRPC itself, is refused.
func (f *callFlags) metadata() ([]string, error) {
	var pairs []string
	for _, header := range f.headers {
		key, value, ok := strings.Cut(header, "=")
		key = strings.ToLower(key)
		first, _, _ := strings.Cut(key, ":")
		switch {
		case strings.TrimSpace(first) == "authorization": // also in the form of grpcurl, with a colon
			return nil, cli.Usagef("--header authorization: others on this machine see the arguments of a program: take --user, or --token-file")
		case !ok || key == "" || strings.ContainsAny(key, " :"):
			return nil, cli.Usagef("--header %q: the form is KEY=VALUE", header)
		case strings.HasPrefix(key, "rolecall-") || strings.HasPrefix(key, "grpc-"):
			return nil, cli.Usagef("--header %s: rolecall and gRPC set this themselves", key)
		}
		pairs = append(pairs, key, value)
	}
	return pairs, nil
}

// input is what --data says: requests, one after the other.
func (f *callFlags) input(m call.Method, stdin io.Reader) (*call.Input, error) {
	var parts []io.Reader
	open := false
	for _, value := range f.data {
		path, file := strings.CutPrefix(value, "@")
		switch {
		case value == "-" || value == "@-":
			parts = append(parts, stdin)
		case file:
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("--data: %w", err)
			}
			parts = append(parts, bytes.NewReader(data))
		default:
			open = true
			parts = append(parts, strings.NewReader(value))
		}
		parts = append(parts, strings.NewReader("\n"))
	}
	in := call.NewInput(m, io.MultiReader(parts...))
	in.InTheOpen = open
	return in, nil
}

// readSigned is what --signed says.
func (f *callFlags) readSigned(stdin io.Reader) (call.Signed, error) {
	all := call.Signed{}
	for _, flag := range f.signed {
		field, value, ok := strings.Cut(flag, "=")
		if !ok || field == "" {
			return nil, cli.Usagef("--signed %.40q: the form is FIELD=JSON, FIELD=@FILE or FIELD=-", flag)
		}
		data := []byte(value)
		var err error
		if path, file := strings.CutPrefix(value, "@"); file {
			data, err = os.ReadFile(path)
		} else if value == "-" {
			data, err = io.ReadAll(io.LimitReader(stdin, maxSigned))
		}
		if err != nil {
			return nil, fmt.Errorf("--signed %s: %w", field, err)
		}
		if err := all.Add(field, data); err != nil {
			return nil, cli.Usagef("--signed: %w", err)
		}
	}
	return all, nil
}

// maxSigned bounds a signed request that is read from standard input: gRPC takes no message of more than 4 MiB.
const maxSigned = 8 << 20
