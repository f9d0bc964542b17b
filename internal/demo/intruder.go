package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/pki/agent"
)

// intruder makes somebody who has the certificate and key of a service, as one has who broke into it: this process is
// registered with the mesh's agent as that service, as `rolecall run` does. Closing it ends that.
func (t *tour) intruder(ctx context.Context, service string) (_ *person, err error) {
	id, err := t.serviceID(service)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	registered, err := agent.Register(ctx, strings.TrimPrefix(t.file.Control, "unix://"), agent.Registration{ID: id, PID: os.Getpid()})
	if err != nil {
		return nil, fmt.Errorf("break into %s: %w", service, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, registered.Close())
		}
	}()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(t.file.WorkloadAPI)),
		workloadapi.WithDefaultX509SVIDPicker(func(svids []*x509svid.SVID) *x509svid.SVID {
			for _, svid := range svids {
				if svid.ID == id { // the process may have others, if somebody runs the demo with `rolecall run`
					return svid
				}
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("break into %s: get its certificate: %w", service, err)
	}
	p, err := t.person(service, id, source, proof.New(proof.Config{}))
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	p.closers = append(p.closers, source.Close, func() error {
		err := registered.Close()
		<-registered.Gone()
		return err
	})
	return p, nil
}
