package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/up"
	"example.com/rolecall/pki"
)

func (a *app) upCommand() *cobra.Command {
	config := up.Config{Out: a.out}
	var databaseFile string
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring up a whole mesh on this machine",
		Long: `Makes a certificate authority, sample bindings and the certificates of three sample operators in a folder, starts the
authority, the agent and every service as a process of its own, makes two sample users with random passwords, and keeps all
of it running until Ctrl-C. What is in the folder already is used again; roles.yaml is never overwritten. mesh.json in the
folder tells other programs how to reach it all.

This is for development: the root's key lies in the folder, encrypted, with its passphrase beside it. If root/ is carried away
the mesh goes on with the issuers that are there, and says until when the root has to sign the next one.`,
		Example: `  rolecall up
  rolecall up --base-port 0                               # free ports, shown in the table and in mesh.json
  rolecall up --leaf-ttl 30s --issuer-ttl 3m              # watch certificates rotate
  rolecall up --bundle-endpoint 127.0.0.1:8443            # for another trust domain to federate with
  rolecall up --federate other.example=other.json         # and the other way round
  rolecall up --database postgres://localhost/rolecall    # instead of an SQLite file for each service`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the own binary: %w", err)
			}
			if config.Database, err = databaseURL(config.Database, databaseFile); err != nil {
				return err
			}
			if config.Federate, err = absoluteFederations(config.Federate); err != nil {
				return err
			}
			config.Executable = executable
			config.Kill = secondSignal()
			ctx := c.Context()
			// A terminal that is closed stops the mesh in good order too, unless nohup or the like said otherwise.
			if !signal.Ignored(syscall.SIGHUP) {
				var stop context.CancelFunc
				ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
				defer stop()
			}
			return up.Run(ctx, config)
		},
	}
	f := c.Flags()
	f.StringVar(&config.Dir, "dir", up.DefaultDir, "folder of the mesh, made if it is not there")
	f.IntVar(&config.BasePort, "base-port", 7440, "services listen on the ports above this one, their admin addresses 100 further; 0: free ports")
	f.StringVar(&config.TrustDomain, "trust-domain", "", "name of the trust domain (default: that of the folder, "+up.DefaultTrustDomain+" for a new one)")
	f.DurationVar(&config.LeafTTL, "leaf-ttl", pki.DefaultLeafLife, "life of the workloads' certificates, 15s at least and a sixth of the issuer's at most")
	f.DurationVar(&config.IssuerTTL, "issuer-ttl", 7*24*time.Hour, "life of the issuers that sign them")
	f.DurationVar(&config.AccessTTL, "access-ttl", 0, "life of the users' access tokens, 1s to 10m (default 10m)")
	f.StringVar(&config.Database, "database", "", "postgres:// URL of a database for all services (default: an SQLite file for each)")
	f.StringVar(&databaseFile, "database-file", "", databaseFileUsage)
	f.BoolVar(&config.AuditAllowed, "audit-allowed", false, "record calls that were allowed too, in the logs of the services")
	f.StringArrayVar(&config.Federate, "federate", nil, federateUsage)
	f.StringVar(&config.BundleEndpoint, "bundle-endpoint", "", "HOST:PORT at which other trust domains read the bundle of this one (profile https_spiffe; default: not served)")
	c.MarkFlagsMutuallyExclusive("database", "database-file")
	return c
}

// secondSignal returns a channel that the second Ctrl-C closes; the first one ends the context of main.
func secondSignal() <-chan struct{} {
	kill := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		<-signals
		close(kill)
	}()
	return kill
}
