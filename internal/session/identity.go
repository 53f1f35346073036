package session

import "path/filepath"

// An Identity is whom a remote takes a session for: whose what it builds is. The agent
// finds it out when the session begins, since a token's file may hold another token by
// the time of the upload.
type Identity struct {
	// Token tells the token's content from others (remote.Token.Hash); "" is none. One
	// that cannot be read is unlike any.
	Token string `json:"token,omitempty"`
	// Confirmed says that the server has said the rest.
	Confirmed bool   `json:"confirmed,omitempty"`
	Name      string `json:"name,omitempty"`      // of the token
	Namespace string `json:"namespace,omitempty"` // that it writes; "" if it may not
}

// Same reports whether two identities of one remote write the same namespace, or might
// as well be the same token. What is not known to be the same is not.
func (i Identity) Same(other Identity) bool {
	if i.Confirmed && other.Confirmed {
		return i.Namespace == other.Namespace
	}
	return i.Token == other.Token && i.Token != Unreadable
}

// Unreadable is the Token of an identity whose token could not be read.
const Unreadable = "?"

// IdentityFile is where agents note whose a store is: in the store itself, so that it
// goes where the store goes. Without it a store that is in use is nobody's.
func IdentityFile(store string) string { return filepath.Join(store, "larder", "identity.json") }
