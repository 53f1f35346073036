package cli

import (
	"encoding/json"
	"fmt"
	"io"
)

// A Finding is what one check of a doctor found.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`               // false if something is broken, or soon will be
	What   string `json:"what"`             // the fact
	Cost   string `json:"cost,omitempty"`   // what it costs in hits, if all works but that
	Remedy string `json:"remedy,omitempty"` // if not OK, or if it costs hits
}

// Good is a finding that all is well.
func Good(check, format string, args ...any) Finding {
	return Finding{Check: check, OK: true, What: fmt.Sprintf(format, args...)}
}

// Bad is a finding of something that should be mended, and how.
func Bad(check, remedy, format string, args ...any) Finding {
	return Finding{Check: check, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Costs is a finding of something that works, but costs hits: what it costs, and
// how to have them.
func Costs(check, cost, remedy, format string, args ...any) Finding {
	return Finding{Check: check, OK: true, Cost: cost, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

// ReportFindings writes findings, as JSON or for people. The error is an ExitError
// if there is something to mend; what only costs hits is none.
func ReportFindings(w io.Writer, findings []Finding, asJSON bool) error {
	toMend := 0
	for _, f := range findings {
		if !f.OK {
			toMend++
		}
	}
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		if err := out.Encode(findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "ok  "
			switch {
			case !f.OK:
				mark = "MEND"
			case f.Cost != "":
				mark = "COST"
			}
			fmt.Fprintf(w, "%s  %s: %s\n", mark, f.Check, f.What)
			if f.Cost != "" {
				fmt.Fprintf(w, "      costs: %s\n", f.Cost)
			}
			if f.Remedy != "" {
				fmt.Fprintf(w, "      -> %s\n", f.Remedy)
			}
		}
	}
	if toMend > 0 {
		return &ExitError{Code: ExitFail}
	}
	return nil
}
