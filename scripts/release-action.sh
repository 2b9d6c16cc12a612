#!/usr/bin/env bash
# release-action.sh VERSION IMAGE@DIGEST makes the commit that people use the
# action at, from the commit that is checked out, and prints it. It differs in
# two things: action.yml names the image that was published, by digest, and
# there are no workflows, which the token of one may not push. The commit goes
# onto the branch `release`, gets the tag VERSION, and the tag of its major
# version moves there, unless a later version has that or this is no final one.
# Run again, it does nothing twice. A tag of a version never moves.
set -euo pipefail
shopt -s inherit_errexit

version=$1 image=$2
remote=${IMGBAKE_RELEASE_REMOTE:-origin}
die() { echo "release-action.sh: $*" >&2; exit 1; }

[[ $version =~ ^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z]+([.-][0-9A-Za-z]+)*)?$ ]] || die "version \"$version\" is not like v1.2.3 or v1.2.3-rc.1"
[[ $image =~ ^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}$ ]] || die "image \"$image\" is not REPOSITORY@sha256:DIGEST"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_INDEX_FILE=$work/index
export GIT_AUTHOR_NAME=${GIT_AUTHOR_NAME:-github-actions[bot]} GIT_AUTHOR_EMAIL=${GIT_AUTHOR_EMAIL:-41898282+github-actions[bot]@users.noreply.github.com}
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL

# rewrite IMAGE reads an action.yml and names the image in it.
rewrite() {
  awk -v image="$1" '
    /^runs:/ { runs = 1 }
    runs && $0 == "  image: Dockerfile" { $0 = "  image: docker://" image; n++ }
    { print }
    END { exit n != 1 }'
}

# made prints the commit that a ref of the remote is at, if there is one.
made() {
  local line
  line=$(git ls-remote "$remote" "$1")
  [ -z "$line" ] || { git fetch --quiet "$remote" "${line%%$'\t'*}" && echo "${line%%$'\t'*}"; }
}

# latest VERSION tells whether no final version of the same major is later.
latest() {
  local major=${1%%.*}
  [ "$1" = "$({ echo "$1"; git ls-remote "$remote" "refs/tags/$major.*" | sed 's|.*refs/tags/||' | grep -Ex "$major\.[0-9]+\.[0-9]+" || true; } | sort -V | tail -n 1)" ]
}

from=$(git rev-parse --verify 'HEAD^{commit}')
git read-tree "$from"
git ls-files -z .github/workflows | git update-index -z --force-remove --stdin
git show "$from:action.yml" | rewrite "$image" >"$work/action.yml" || die "action.yml of $from has not the one line \"image: Dockerfile\""
git update-index --cacheinfo "100644,$(git hash-object -w "$work/action.yml"),action.yml"
tree=$(git write-tree)

commit=$(made "refs/tags/$version")
if [ -n "$commit" ]; then
  [ "$(git rev-parse "$commit^{tree}")" = "$tree" ] || die "$version is there already, and is something else"
  commit=$(git rev-parse "$commit^{commit}")
  refs=()
else
  parents=()
  tip=$(made refs/heads/release)
  [ -z "$tip" ] || parents=(-p "$tip")
  commit=$(git commit-tree "$tree" "${parents[@]}" -p "$from" -m "$version" -m "Image: $image")
  refs=("$commit:refs/heads/release" "$commit:refs/tags/$version")
fi
if [[ $version != *-* ]] && latest "$version" && [ "$(made "refs/tags/${version%%.*}")" != "$commit" ]; then
  refs+=("+$commit:refs/tags/${version%%.*}")
fi
[ ${#refs[@]} = 0 ] || git push --quiet --atomic "$remote" "${refs[@]}" >&2
echo "$commit"
