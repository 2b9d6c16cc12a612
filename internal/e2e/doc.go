// Package e2e holds the tests of what imgbake promises as a whole: the built
// program, on real Docker Engines, with a real registry protocol. It has no
// code of its own. The tests carry the build tag engine and read
//
//	DOCKER_HOST           the engine to bake on
//	IMGBAKE_TEST_BIN      a folder with imgbake and its helpers; built when not given
//	IMGBAKE_TEST_ROOTFS   a tar of a minimal Debian; made when not given
//	IMGBAKE_TEST_ACT      nektos/act, which runs the workflows in templates/github
//	IMGBAKE_REQUIRE=all   what is missing fails a test instead of skipping it
package e2e
