package status

import (
	"cmp"
	"slices"
	"time"

	"example.com/rolecall/pki"
)

// Unrenewed is an identity whose newest certificate is by an issuer that was revoked.
type Unrenewed struct {
	SPIFFEID  string    `json:"spiffe_id"`
	Requester string    `json:"requester"` // who asked for that certificate; "local": somebody with the authority's folder
	Issuer    int       `json:"issuer"`
	NotAfter  time.Time `json:"not_after"`
}

// FindUnrenewed says who has not renewed since an issuer was revoked, as far as the record tells: of processes that share
// an identity and an agent it knows the latest certificate alone. While there is somebody, denying the issuer's key in
// roles.yaml refuses him.
func FindUnrenewed(issuers *pki.Issuers, now time.Time) ([]Unrenewed, error) {
	revoked := map[int]bool{}
	for _, r := range issuers.Revoked() {
		revoked[r.Generation] = true
	}
	found := []Unrenewed{}
	if len(revoked) == 0 {
		return found, nil
	}
	records, err := issuers.LiveRecords(now)
	if err != nil {
		return nil, err
	}
	type owner struct{ id, requester string }
	newest := map[owner]pki.Record{}
	for _, r := range records {
		o := owner{r.ID, r.Requester}
		if last, ok := newest[o]; !ok || !r.Issued.Before(last.Issued) {
			newest[o] = r
		}
	}
	for _, r := range newest {
		if revoked[r.Generation] {
			found = append(found, Unrenewed{SPIFFEID: r.ID, Requester: r.Requester, Issuer: r.Generation, NotAfter: r.NotAfter})
		}
	}
	slices.SortFunc(found, func(a, b Unrenewed) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.SPIFFEID, b.SPIFFEID), cmp.Compare(a.Requester, b.Requester))
	})
	return found, nil
}
