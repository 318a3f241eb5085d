package pmpserver

import (
	"errors"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// codes is what the Desk's errors are in the protocols (RFC 6887, section 7.4; RFC 6886, section 3.5).
var codes = []struct {
	err    error
	pcp    pcp.Code
	natpmp natpmp.Code
}{
	{portmap.ErrDenied, pcp.NotAuthorized, natpmp.NotAuthorized},
	{portmap.ErrNonce, pcp.NotAuthorized, natpmp.NotAuthorized},
	{portmap.ErrConflict, pcp.CannotProvideExternal, natpmp.OutOfResources},
	{portmap.ErrQuota, pcp.UserExQuota, natpmp.OutOfResources},
	{portmap.ErrFull, pcp.NoResources, natpmp.OutOfResources},
	{portmap.ErrNoExternal, pcp.NetworkFailure, natpmp.NetworkFailure},
	{portmap.ErrNotFound, pcp.Success, natpmp.Success}, // of what is to be deleted, and then it is as it should be
}

func pcpCode(err error) pcp.Code {
	if err == nil {
		return pcp.Success
	}
	var code pcp.Code
	if errors.As(err, &code) {
		return code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.pcp
		}
	}
	return pcp.NoResources // it may work later
}

func natpmpCode(err error) natpmp.Code {
	if err == nil {
		return natpmp.Success
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.natpmp
		}
	}
	return natpmp.OutOfResources
}
