#!/usr/bin/env bash
# release-notes.sh VERSION COMMIT IMAGE@DIGEST prints the text of a release's
# page: the line to pin the action with, the image, and what CHANGELOG.md says.
set -euo pipefail

version=$1 commit=$2 image=$3
cat <<NOTES
\`\`\`yaml
- uses: imgbake/imgbake-action@$commit # $version
\`\`\`

Image: \`$image\`. The programs' digests are in \`checksums.txt\`.

NOTES
awk -v heading="## [${version#v}]" '
  index($0, "## [") == 1 { on = index($0, heading) == 1; next }
  on' "$(dirname "$0")/../CHANGELOG.md"
