package keystore

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// Keyrings cap the size of an item: 2,560 bytes on Windows, about 3,000 for
// everything together on macOS. A value is therefore cut into chunks, on every
// platform, so that the path that is tested is the path that is used.
//
// A chunk is text (base64 of a piece of the value): some keyrings trim, others
// re-encode what is not UTF-8, and a cut may fall inside a character.
const (
	chunkLen = 2048                                 // of an item as the keyring sees it
	pieceLen = chunkLen / 4 * 3                     // of the value inside it
	maxPiece = (MaxValue + pieceLen - 1) / pieceLen // number of pieces
)

// header is the item that says which chunks make up a value. It is written
// when they are all in place, and replacing it is what replaces the value.
type header struct {
	Version    int    `json:"version"`
	Generation string `json:"generation"`
	Chunks     int    `json:"chunks"`
	Length     int    `json:"length"`
	SHA256     string `json:"sha256"`
}

// split cuts a value into chunks of a new generation.
func split(value string) (header, []string) {
	var gen [8]byte
	rand.Read(gen[:])
	sum := sha256.Sum256([]byte(value))
	h := header{Version: 1, Generation: hex.EncodeToString(gen[:]), Length: len(value), SHA256: hex.EncodeToString(sum[:])}
	var chunks []string
	for rest := value; rest != ""; {
		n := min(len(rest), pieceLen)
		chunks = append(chunks, base64.RawStdEncoding.EncodeToString([]byte(rest[:n])))
		rest = rest[n:]
	}
	h.Chunks = len(chunks)
	return h, chunks
}

// join puts a value together again. It refuses anything that split did not
// make; its errors name no content.
func join(h header, chunks []string) (string, error) {
	if len(chunks) != h.Chunks {
		return "", fmt.Errorf("%d chunks of %d are there", len(chunks), h.Chunks)
	}
	var value strings.Builder
	for i, c := range chunks {
		piece, err := base64.RawStdEncoding.Strict().DecodeString(c)
		if err != nil || strings.ContainsAny(c, "\r\n") { // the decoder skips line ends
			return "", fmt.Errorf("chunk %d of %d is garbled", i+1, h.Chunks)
		}
		value.Write(piece)
	}
	sum := sha256.Sum256([]byte(value.String()))
	if value.Len() != h.Length || hex.EncodeToString(sum[:]) != h.SHA256 {
		return "", errors.New("its checksum does not match")
	}
	return value.String(), nil
}

func (h header) encode() string {
	b, err := json.Marshal(h)
	if err != nil {
		panic("keystore: a header does not encode") // five plain fields: cannot happen
	}
	return string(b)
}

// parseHeader reads a header. What it accepts is safe to use: the generation is
// part of names of items, and the count is how many of them are fetched.
func parseHeader(text string) (header, error) {
	var h header
	if err := json.Unmarshal([]byte(text), &h, json.RejectUnknownMembers(true)); err != nil {
		return header{}, errors.New("its header is garbled") // the decoder's error may quote what it read
	}
	if h.Version != 1 {
		return header{}, fmt.Errorf("its header is of version %d, made by another cred", h.Version)
	}
	if !isGeneration(h.Generation) || h.Chunks < 1 || h.Chunks > maxPiece || h.Length < 1 || h.Length > MaxValue {
		return header{}, errors.New("its header is garbled")
	}
	return h, nil
}

func isGeneration(s string) bool {
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// account is the name of a header item in the keyring. Upper case and anything
// unusual is escaped: Windows does not tell A from a, and names go through a
// shell-like parser on macOS.
func account(item string) string {
	var b strings.Builder
	for _, c := range []byte(item) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("._-/@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// chunkAccount is the name of a chunk item. '#' is escaped in account, so no
// name of a secret makes the name of another's chunk.
func chunkAccount(item, generation string, i int) string {
	return fmt.Sprintf("%s#%s.%d", account(item), generation, i)
}
