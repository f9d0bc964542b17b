// Package cli is how rolecall talks at a terminal: colour and live progress where the output is a terminal and nobody asked
// for none, plain lines everywhere else, tables, JSON, and exit codes.
//
//	out := cli.New(os.Stdout)
//	table := cli.Table{Header: []string{"SERVICE", "ADDRESS"}}
//	table.Add("ledger", "127.0.0.1:7445")
//	table.Write(out)
//	os.Exit(cli.Exit(os.Stderr, err))
package cli
