//go:build !unix

package touch

import (
	"errors"
	"time"
)

const canTouchLinks = false

func touchLink(string, time.Time) error { return errors.ErrUnsupported }
