#!/bin/sh
# Installs a Kerberos KDC and the package gssapi for the tests, where Debian's packages can be had.
# Elsewhere it says so, and the tests of Kerberos are skipped.
#
#     tools/kerberos.sh PYTHON
set -eu
python=$1
PATH=$PATH:/usr/sbin:/sbin

skipped() {
    echo "kerberos: $1; its tests are skipped"
    exit 0
}

if ! { command -v kadmin.local && command -v kinit && command -v krb5-config; } >/dev/null; then
    command -v apt-get >/dev/null || skipped "there is no apt-get"
    [ "$(id -u)" = 0 ] || skipped "its packages can be installed by root only"
    echo "kerberos: installing krb5-kdc, krb5-admin-server, krb5-user and libkrb5-dev"
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get install -y -qq --no-install-recommends"
    packages="krb5-kdc krb5-admin-server krb5-user libkrb5-dev"
    # shellcheck disable=SC2086
    $install $packages >/dev/null 2>&1 || { apt-get update -qq && $install $packages; } \
        >/dev/null 2>&1 || skipped "its packages cannot be had"
fi
if ! "$python" -c "import gssapi" 2>/dev/null; then
    echo "kerberos: installing the package gssapi"
    "$python" -m pip install -q "gssapi>=1.9" || skipped "gssapi cannot be built"
fi
