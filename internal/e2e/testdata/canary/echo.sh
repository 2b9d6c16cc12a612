# Prints every variable that it is told in every form that people meet in logs.
# Only builtins are given a value as an argument.
for name in $NAMES; do
  eval "v=\$$name"
  printf 'raw %s\n' "$v"
  printf 'err %s\n' "$v" >&2
  printf 'base64 %s\n' "$(printf %s "$v" | base64)"
  printf 'base64 %s\n' "$(printf x%s "$v" | base64)"
  printf 'base64 %s\n' "$(printf xx%s "$v" | base64)"
  printf 'hex %s\n' "$(printf %s "$v" | od -An -v -tx1 | tr -d ' \n')"
  printf 'HEX %s\n' "$(printf %s "$v" | od -An -v -tx1 | tr -d ' \n' | tr a-f A-F)"
  printf 'url %s\n' "$(printf %s "$v" | perl -0pe 's/([^A-Za-z0-9_.~-])/sprintf("%%%02X", ord($1))/ge')"
  printf %s "$v" | perl -0pe 's/([^\n]{7})/$1/; $| = 1; print(substr($_, 0, 7)); $_ = substr($_, 7)' # in two writes
  echo
  printf '%s\n' "$v" | while IFS= read -r line; do printf 'line %s.\n' "$line"; done
done
