# make install, make uninstall; included by the Makefile. The switches (MPI, ONEDNN) are those of the
# build that is installed.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=

HEADERS = $(wildcard include/muon/*.h include/muonspec/*.h)
LIBRARIES = libmuon libmuonspec
LIBS_libmuon = $(shell pkg-config --libs openblas lapacke) $(LIBS_ONEDNN) $(LIBS_MPI) -lpthread -lm
LIBS_libmuonspec = $(LIBS_PKG) -lpthread -lm

# every file that install makes, without DESTDIR
INSTALLED = $(addprefix $(BINDIR)/,$(TOOLS)) \
	$(patsubst include/%,$(INCLUDEDIR)/%,$(HEADERS)) \
	$(foreach l,$(LIBRARIES),$(addprefix $(LIBDIR)/$(l),.a .so .so.$(SOVERSION) .so.$(VERSION)) \
		$(LIBDIR)/pkgconfig/$(l).pc)

to = "$(DESTDIR)$(1)"

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

.PHONY: install uninstall
install: all
	$(call say,INST,$(DESTDIR)$(PREFIX))
	$(Q)install -d $(call to,$(BINDIR)) $(call to,$(LIBDIR)/pkgconfig) \
		$(call to,$(INCLUDEDIR)/muon) $(call to,$(INCLUDEDIR)/muonspec)
	$(Q)install -m 755 $(addprefix $(BUILD)/,$(TOOLS)) $(call to,$(BINDIR))
	$(Q)install -m 644 $(wildcard include/muon/*.h) $(call to,$(INCLUDEDIR)/muon)
	$(Q)install -m 644 $(wildcard include/muonspec/*.h) $(call to,$(INCLUDEDIR)/muonspec)
	$(foreach l,$(LIBRARIES),$(call install_library,$(l)))
	$(Q)[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || true

uninstall:
	$(Q)rm -f $(foreach f,$(INSTALLED),$(call to,$(f)))
	$(Q)rmdir $(call to,$(INCLUDEDIR)/muon) $(call to,$(INCLUDEDIR)/muonspec) 2>/dev/null || true
