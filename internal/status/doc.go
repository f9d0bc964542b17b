// Package status finds out how a mesh that `rolecall up` runs is, from outside: its processes, what each says over mutual TLS and
// at its admin address, what its certificates have left, the issuers, the files. `rolecall status` shows it.
//
//	report, err := status.Collect(ctx, dir, time.Now())
//	report.Write(out)
//	if !report.OK() { os.Exit(1) }
//
// It changes nothing. Whatever somebody must act on is in Report.Problems, each with what to do.
package status
