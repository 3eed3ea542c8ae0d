# make install, make uninstall; included by the Makefile. The switches (MPI, ONEDNN) are those of the
# build that is installed.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
DESTDIR ?=

HEADERS = $(wildcard include/muon/*.h include/muonspec/*.h)
LIBRARIES = libmuon libmuonspec
LIBS_libmuon = $(shell pkg-config --libs openblas lapacke) $(LIBS_ONEDNN) $(LIBS_MPI) -lpthread -lm
LIBS_libmuonspec = $(LIBS_PKG) -lpthread -lm

# ---- manual pages and completions, of the programs' own tables of options ------------------------
MANUALS = $(TOOLS:%=$(BUILD)/documents/%.1)
COMPLETIONS = $(foreach t,$(TOOLS),$(BUILD)/documents/$(t).bash $(BUILD)/documents/_$(t))

$(BUILD)/documents/%.1: packaging/%.1.in $(BUILD)/%
	@mkdir -p $(@D)
	$(Q)$(BUILD)/$* --print-manual >$@.tmp
	$(Q)sed -e '/^@COMMANDS@$$/{r $@.tmp' -e 'd}' -e 's/@VERSION@/$(VERSION)/' $< >$@.whole
	$(Q)rm $@.tmp && mv $@.whole $@

$(BUILD)/documents/%.bash: $(BUILD)/%
	@mkdir -p $(@D)
	$(Q)$< --print-bash >$@.tmp && mv $@.tmp $@

$(BUILD)/documents/_%: $(BUILD)/%
	@mkdir -p $(@D)
	$(Q)$< --print-zsh >$@.tmp && mv $@.tmp $@

.PHONY: documents
documents: $(MANUALS) $(COMPLETIONS)

# ---- installing -----------------------------------------------------------------------------------
# in quotes, as both may hold spaces
to = "$(DESTDIR)$(1)"

# every file that install makes
INSTALLED = $(foreach t,$(TOOLS),$(call to,$(BINDIR)/$(t)) $(call to,$(MANDIR)/man1/$(t).1) \
		$(call to,$(BASHDIR)/$(t)) $(call to,$(ZSHDIR)/_$(t))) \
	$(foreach h,$(HEADERS),$(call to,$(INCLUDEDIR)/$(h:include/%=%))) \
	$(foreach l,$(LIBRARIES),$(call to,$(LIBDIR)/pkgconfig/$(l).pc) \
		$(foreach e,a so so.$(SOVERSION) so.$(VERSION),$(call to,$(LIBDIR)/$(l).$(e))))

define install_library
$(Q)install -m 644 $(BUILD)/$(1).a $(call to,$(LIBDIR))
$(Q)install -m 644 $(BUILD)/$(1).so.$(VERSION) $(call to,$(LIBDIR))
$(Q)ln -sf $(1).so.$(VERSION) $(call to,$(LIBDIR)/$(1).so.$(SOVERSION))
$(Q)ln -sf $(1).so.$(VERSION) $(call to,$(LIBDIR)/$(1).so)
$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	-e 's|@LIBS@|$(strip $(LIBS_$(1)))|' packaging/$(1).pc.in \
	>$(call to,$(LIBDIR)/pkgconfig/$(1).pc)
$(Q)chmod 644 $(call to,$(LIBDIR)/pkgconfig/$(1).pc)

endef

define install_completion
$(Q)install -m 644 $(BUILD)/documents/$(1).bash $(call to,$(BASHDIR)/$(1))
$(Q)install -m 644 $(BUILD)/documents/_$(1) $(call to,$(ZSHDIR))

endef

.PHONY: install uninstall
install: all documents
	$(call say,INST,$(call to,$(PREFIX)))
	$(Q)install -d $(call to,$(BINDIR)) $(call to,$(LIBDIR)/pkgconfig) \
		$(call to,$(INCLUDEDIR)/muon) $(call to,$(INCLUDEDIR)/muonspec) \
		$(call to,$(MANDIR)/man1) $(call to,$(BASHDIR)) $(call to,$(ZSHDIR))
	$(Q)install -m 755 $(addprefix $(BUILD)/,$(TOOLS)) $(call to,$(BINDIR))
	$(Q)install -m 644 $(MANUALS) $(call to,$(MANDIR)/man1)
	$(foreach t,$(TOOLS),$(call install_completion,$(t)))
	$(Q)install -m 644 $(wildcard include/muon/*.h) $(call to,$(INCLUDEDIR)/muon)
	$(Q)install -m 644 $(wildcard include/muonspec/*.h) $(call to,$(INCLUDEDIR)/muonspec)
	$(foreach l,$(LIBRARIES),$(call install_library,$(l)))
	$(Q)[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || true

uninstall:
	$(Q)rm -f $(INSTALLED)
	$(Q)rmdir $(call to,$(INCLUDEDIR)/muon) $(call to,$(INCLUDEDIR)/muonspec) 2>/dev/null || true
	$(Q)[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || true

# ---- Debian packages ------------------------------------------------------------------------------
PACKAGES_DEB = build-essential debhelper dpkg-dev
MAINTAINER ?= The muonspec authors <maintainers@muonspec.invalid>

$(BUILD)/packages-deb: Makefile install.mk
	$(call install_missing,$(PACKAGES_DEB))
	@mkdir -p $(@D) && touch $@

.PHONY: deb
deb: | $(BUILD)/packages-build $(BUILD)/packages-deb
	$(call say,DEB,$(BUILD)/deb)
	$(Q)packaging/make_deb.sh $(abspath $(BUILD))/deb $(VERSION) $(SOVERSION) "$(MAINTAINER)" \
		"$(PACKAGES_BUILD)" MPI=$(MPI) ONEDNN=$(ONEDNN)
	@ls $(BUILD)/deb/*.deb
